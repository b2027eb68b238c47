"""A completions server on loopback that tells a small real model's log-probabilities of the prompt, as vLLM and as others do."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

from star_pipeline_tests.llm_server import ChatServer, Reply, chat_server

Asked = dict[str, Any]
Dialect = Literal["vllm", "echo"]
_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def completions_server(
    folder: Path,
    dialect: Dialect,
    *,
    first: Callable[[Asked], Reply | None] = lambda asked: None,
    taken: Callable[[list[int]], list[int]] = list,
    values: Callable[[list[float]], Sequence[float | None]] = list,
    limit: int | None = None,
) -> Iterator[ChatServer]:
    """Serves the model in ``folder`` under the name ``m``.

    ``first`` may answer in the server's place; ``taken`` makes of the token ids those that are computed, ``values`` of the
    log-probabilities those that are told. ``limit``: tokens of prompt and answer, the model's own where it is None.
    """
    most = limit or _load(folder).config.max_position_embeddings

    def script(asked: Asked) -> Reply | str:
        return first(asked) or _answer(folder, dialect, asked, taken, values, most)

    with chat_server(script) as server:
        server.models = [{"id": "m", "object": "model", "max_model_len": most}]
        yield server


@cache
def _load(folder: Path) -> Any:
    import torch
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def _log_probabilities(folder: Path, ids: list[int]) -> tuple[list[float], int]:
    """Of all tokens but the first, from full logits; and the token that would follow."""
    import torch

    with _ONE_AT_A_TIME, torch.no_grad():
        logits = _load(folder)(torch.tensor([ids])).logits[0].double()
    told = logits[:-1].log_softmax(-1)[range(len(ids) - 1), ids[1:]]
    return told.tolist(), int(logits[-1].argmax())


def _answer(
    folder: Path,
    dialect: Dialect,
    asked: Asked,
    taken: Callable[[list[int]], list[int]],
    values: Callable[[list[float]], Sequence[float | None]],
    most: int,
) -> Reply:
    ids = asked["prompt"]
    if asked["path"] != "/v1/completions" or asked["model"] != "m":
        return refusal(404, f"The model `{asked['model']}` does not exist.")
    if not all(isinstance(token, int) for token in ids) or asked["max_tokens"] != 1:
        return refusal(400, "token ids are expected, and max_tokens 1")
    if len(ids) + 1 > most:
        return refusal(400, f"This model's maximum context length is {most} tokens. However, you requested more.")
    ids = taken(ids)
    own, generated = _log_probabilities(folder, ids)
    told = values(own)
    choice: dict[str, Any] = {"index": 0, "text": "…", "finish_reason": "length", "logprobs": None}
    if dialect == "vllm":
        if "prompt_logprobs" in asked:
            choice["prompt_logprobs"] = [
                None,
                *(
                    {str(token): {"logprob": value, "rank": 1, "decoded_token": "?"}}
                    for token, value in zip(ids[1:], told, strict=True)
                ),
            ]
    elif asked.get("logprobs"):
        echoed = [None, *told] if asked.get("echo") else []
        names = [f"<{token}>" for token in (ids if asked.get("echo") else [])]
        choice["logprobs"] = {"tokens": [*names, f"<{generated}>"], "token_logprobs": [*echoed, -0.5]}
    usage = {"prompt_tokens": len(ids), "completion_tokens": 1, "total_tokens": len(ids) + 1}
    body = {"id": "x", "object": "text_completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
    return Reply(body=json.dumps(body).encode())


def refusal(status: int, message: str, **headers: str) -> Reply:
    """An error in OpenAI's form."""
    body = json.dumps({"error": {"message": message, "type": "error", "code": status}}).encode()
    return Reply(status=status, body=body, headers=headers)
