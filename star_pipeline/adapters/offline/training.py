"""Trains the offline profile's scoring models: tiny GPT-NeoX language models, on a CPU, in about a minute.

They read the starter seeds in the Alpaca form, the bare responses (so that IFD's unconditional pass is a text of a
kind they know), and some of the documentation that every Python carries.
"""

from __future__ import annotations

import importlib
import inspect
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from star_pipeline.adapters.offline.knowledge import Example, Knowledge
from star_pipeline.adapters.offline.respond import respond
from star_pipeline.adapters.offline.rewrite import rewrite
from star_pipeline.adapters.offline.text import Draw

if TYPE_CHECKING:
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

END = "<|endoftext|>"
CONTEXT = 1_024
PREAMBLE = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
_MODULES = (
    "bisect",
    "csv",
    "difflib",
    "functools",
    "glob",
    "heapq",
    "json",
    "math",
    "random",
    "shutil",
    "statistics",
    "textwrap",
)
_INSTRUCTION_MANNERS = (None, None, "tutor", "essayist", "brief", "rambler")
_RESPONSE_MANNERS = ("tutor", "tutor", "essayist", "brief")
_LIBRARY_CHARACTERS = 400
_REPORT_EVERY_S = 5.0
_MOST_THREADS = 4

Pair = tuple[str, str]
"""A prompt and its response."""


@dataclass(frozen=True)
class Size:
    """A model's width (divisible by its heads), depth, and how it is trained."""

    hidden: int
    layers: int
    heads: int
    learning_rate: float


@dataclass(frozen=True)
class Recipe:
    """Everything but the seeds that decides what the trained models are.

    ``revision`` stands for the code: raise it when this module or the agents' texts change, to replace old models.
    """

    sizes: tuple[tuple[str, Size], ...] = (
        ("small", Size(hidden=48, layers=2, heads=2, learning_rate=6e-3)),
        ("large", Size(hidden=160, layers=3, heads=4, learning_rate=3e-3)),
    )
    vocabulary: int = 2_048
    epochs: int = 12
    bare_every: int = 3
    library_epochs: int = 2
    batch_tokens: int = 1_024
    warmup: float = 0.1
    weight_decay: float = 0.01
    seed: int = 0
    revision: int = 1


def alpaca_pair(example: Example) -> Pair:
    """The example in the Alpaca form: a system prompt takes the preamble's place, earlier turns come first."""
    turns = "".join(f"### Instruction:\n{user}\n\n### Response:\n{answer}\n\n" for user, answer in example.history)
    prompt = f"{example.system or PREAMBLE}\n\n{turns}### Instruction:\n{example.instruction}\n\n### Response:"
    return prompt, example.response


def library_examples() -> list[Example]:
    """Questions about Python with the beginning of its own documentation as the answer."""
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    asked = [(f"Explain {name} in Python.", text) for name, text in sorted(topics.items())]
    for module in map(importlib.import_module, _MODULES):
        for name, item in sorted(vars(module).items()):
            if not name.startswith("_") and callable(item) and (doc := inspect.getdoc(item)):
                asked.append((f"What does {module.__name__}.{name} do?", doc))
    return [Example(question, _beginning(text.strip())) for question, text in asked]


def in_an_agents_manner(example: Example, draw: Draw) -> Example:
    """As the offline agents might rewrite and answer it, so that the manner of their candidates is no surprise."""
    instruction, response = example.instruction, example.response
    if instruction_agent := draw.pick("instruction agent", _INSTRUCTION_MANNERS):
        instruction = rewrite(instruction_agent, instruction, "", draw)
    if response_agent := draw.pick("response agent", _RESPONSE_MANNERS):
        response = respond(response_agent, instruction, (), response, Knowledge(()), draw)
    return replace(example, instruction=instruction, response=response)


def _beginning(text: str) -> str:
    if len(text) <= _LIBRARY_CHARACTERS:
        return text
    return text[:_LIBRARY_CHARACTERS].rpartition("\n")[0].rstrip() or text[:_LIBRARY_CHARACTERS]


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most ``vocabulary`` tokens learned on ``texts``; it encodes any text there is."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    wrap = transformers.PreTrainedTokenizerFast
    return wrap(tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END, model_max_length=CONTEXT)


@dataclass(frozen=True)
class Text:
    """Token ids of one training text; the first ``unscored`` of them are given, not learned."""

    ids: tuple[int, ...]
    unscored: int


def encode(pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerFast, bare: bool) -> list[Text]:
    """[start, prompt, response, end] with loss on the response; without the prompt where ``bare``."""
    end = tokenizer.eos_token_id
    encoded = []
    for prompt, response in pairs:
        # Apart, as the scorer does it: no token may straddle the boundary.
        given, answer = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, response))
        unscored = 1 if bare else 1 + len(given)
        ids = [end, *(() if bare else given), *answer, end][:CONTEXT]
        if unscored < len(ids):
            encoded.append(Text(tuple(ids), unscored))
    return encoded


def _batches(sequences: Sequence[Text], batch_tokens: int) -> list[list[Text]]:
    """Of similar length each, so that little is padding; at most ``batch_tokens`` with padding, or one text."""
    batches: list[list[Text]] = []
    for sequence in sorted(sequences, key=lambda s: (len(s.ids), s.ids)):
        if not batches or (len(batches[-1]) + 1) * len(sequence.ids) > batch_tokens:
            batches.append([])
        batches[-1].append(sequence)
    return batches


def architecture(size: Size, vocabulary: int, **special_tokens: int) -> GPTNeoXConfig:
    """The configuration of a model that is trained here."""
    import transformers

    return transformers.GPTNeoXConfig(
        vocab_size=vocabulary,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.hidden,
        max_position_embeddings=CONTEXT,
        use_cache=False,
        **special_tokens,
    )


def train_model(
    name: str,
    size: Size,
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerFast,
    seeds: Sequence[Example],
    library: Sequence[Example],
    report: Callable[[str], None],
) -> GPTNeoXForCausalLM:
    """A GPTNeoXForCausalLM (float32, eval mode) trained by ``recipe``; torch's global random state stays as it was."""
    import torch
    import transformers

    config = architecture(
        size,
        len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = transformers.GPTNeoXForCausalLM(config)
    model.float().train()
    with _few_threads():
        _train(name, size, recipe, model, list(_schedule(recipe, tokenizer, seeds, library)), report)
    return model.eval()


@contextmanager
def _few_threads() -> Iterator[None]:
    """At most four: models this small are only slowed down by more, which wait for one another."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(min(before, _MOST_THREADS))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(
    name: str,
    size: Size,
    recipe: Recipe,
    model: GPTNeoXForCausalLM,
    schedule: Sequence[list[Text]],
    report: Callable[[str], None],
) -> None:
    import torch

    optimizer = torch.optim.AdamW(
        model.parameters(), lr=size.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
    )
    started = reported = time.monotonic()
    for step, batch in enumerate(schedule):
        rate = _rate(step, len(schedule), recipe.warmup)
        for group in optimizer.param_groups:
            group["lr"] = size.learning_rate * rate
        loss = _loss(model, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if time.monotonic() - reported >= _REPORT_EVERY_S:
            reported = time.monotonic()
            done = (step + 1) / len(schedule)
            report(f"training offline/{name}: {done:.0%}, loss {loss.item():.2f}, {reported - started:.0f} s")
    report(f"trained offline/{name} in {time.monotonic() - started:.0f} s")


def _schedule(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerFast,
    seeds: Sequence[Example],
    library: Sequence[Example],
) -> Iterator[list[Text]]:
    """The batches of all epochs in order: the seeds as they are and in the agents' manner by turns, the library first.

    Bare responses come less often than answered instructions. Learned as often, they would be known by heart without
    their instructions, and no instruction could help any more: every IFD would be 1.
    """
    import torch

    generator = torch.Generator().manual_seed(recipe.seed)
    for epoch in range(recipe.epochs):
        examples = list(seeds)
        if epoch < recipe.library_epochs:
            examples += library
        if epoch % 2 == 1:
            examples = [
                in_an_agents_manner(example, Draw(recipe.seed, epoch, number))
                for number, example in enumerate(examples)
            ]
        pairs = [alpaca_pair(example) for example in examples]
        texts = encode(pairs, tokenizer, bare=False)
        if epoch % recipe.bare_every == 0:
            texts += encode(pairs[: len(seeds)], tokenizer, bare=True)
        batches = _batches(texts, recipe.batch_tokens)
        for number in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[number]


def _rate(step: int, total: int, warmup: float) -> float:
    """Share of the full learning rate: linear warm-up, then a cosine down to a twentieth."""
    begin = max(1, int(warmup * total))
    if step < begin:
        return (step + 1) / begin
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - begin) / max(1, total - begin)))


def _loss(model: GPTNeoXForCausalLM, batch: Sequence[Text]) -> torch.Tensor:
    """Mean cross-entropy in nats over the learned tokens; logits only there, which is much cheaper than ``labels=``."""
    import torch

    width = max(len(sequence.ids) for sequence in batch)
    # Padding stands at the end, where causal attention keeps it out of sight: no mask is needed.
    ids = torch.tensor([[*sequence.ids, *[0] * (width - len(sequence.ids))] for sequence in batch])
    place = torch.arange(1, width)
    first = torch.tensor([sequence.unscored for sequence in batch])[:, None]
    last = torch.tensor([len(sequence.ids) for sequence in batch])[:, None]
    learned = (place >= first) & (place < last)
    hidden = model.base_model(input_ids=ids).last_hidden_state[:, :-1][learned]
    return torch.nn.functional.cross_entropy(model.get_output_embeddings()(hidden), ids[:, 1:][learned])


def save(model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Model and tokenizer in transformers' own format, without its progress bars of a few milliseconds."""
    from transformers.utils import logging as transformers_logging

    logging = transformers_logging

    shows_bars: bool = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    finally:
        if shows_bars:
            logging.enable_progress_bar()
