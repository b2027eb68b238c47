"""Eq. 4 as plainly as can be: one sample after the other, the whole vocabulary's logits, float64 from there on."""

from pathlib import Path
from typing import Any


class OneByOne:
    """A model and its tokenizer, used as a reader of the design would: nothing of the project's own is called."""

    def __init__(self, folder: Path) -> None:
        import torch
        import transformers

        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        self.start = bos if bos is not None else eos

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def losses(self, prompt: str, response: str, limit: int = 10**9, start: str = "token") -> tuple[int, float, float]:
        """Scored tokens, and the mean losses of [start, prompt, response] and [start, response] over them."""
        before, first = self.ids(prompt), [self.start, *(self.ids("\n") if start == "newline" else [])]
        after, skipped = self.ids(response)[: limit - len(first) - len(before)], int(start == "skip_first")
        means = (self._mean([*first, *some], after, skipped) for some in (before, []))
        return len(after) - skipped, *means

    def _mean(self, context: list[int], after: list[int], skipped: int = 0) -> float:
        import torch

        ids = torch.tensor([context + after])
        with torch.no_grad():
            logits: Any = self.model(ids).logits
        logp = logits[0, len(context) - 1 : -1].double().log_softmax(-1)
        each = -logp.gather(-1, ids[0, len(context) :, None])[skipped:]
        return float(each.sum()) / len(each)
