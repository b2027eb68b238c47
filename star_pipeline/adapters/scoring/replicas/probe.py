"""What tells whether a machine computes a lake's values: losses of fixed passes under the model itself, kept with the lake's numerics; of
the embedding model the vectors of fixed texts, by their digest."""

import functools
import hashlib
import json
from collections.abc import Sequence

import numpy as np
from upath import UPath

from star_pipeline.adapters.embedder import embed_batch, embedding, plan_batches
from star_pipeline.adapters.lake import write_whole
from star_pipeline.adapters.scoring.causal_lm import CausalLM
from star_pipeline.adapters.scoring.numerics import PROBES
from star_pipeline.adapters.scoring.prefix_tree import ForwardPass, Tokens
from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.errors import ModelError

_PROMPTS, _RESPONSES = (70, 41), (130, 66, 5)
"""Tokens of each. Long enough that every kernel which scoring takes is at work, short enough for a large model on a processor."""
_BUDGET = 512
_TEXT = "write a list of steps that tell how one bakes bread, sorts numbers or explains 12 terms to somebody new"


def probe_losses(model: CausalLM) -> list[float]:
    """The mean loss of each of the probe's passes, in nats; to be called with the numerics in force. Raises ModelError."""
    passes = _passes(model.vocabulary, model.lengths.last(0, 10**9))
    means: dict[int, float] = {}
    for members in model.plan(passes, _BUDGET):
        found = model.losses(passes, members)
        if found is None:
            raise ModelError(f"scoring model {model.name!r}: memory does not suffice for {_BUDGET} tokens at once")
        means |= found
    return [means[number] for number in range(len(passes))]


def largest_difference(ones: Sequence[float], others: Sequence[float]) -> float:
    """In nats; infinite where one has no number, or they are not as many."""
    if len(ones) != len(others):
        return float("inf")
    differences = np.abs(np.array(ones) - np.array(others))
    return float(np.nan_to_num(differences, nan=np.inf).max())


def kept_losses(record: UPath, name: str) -> list[float] | None:
    """The lake's; None where it has none for the model ``name``."""
    found = _read(record).get(PROBES, {}).get(name, {}).get("losses")
    return None if found is None else [float(loss) for loss in found]


def keep(record: UPath, name: str, losses: Sequence[float], difference: float = 0.0) -> None:
    """Keep the lake's losses of a model, and the largest difference that was ever allowed."""
    whole = _read(record)
    before = whole.get(PROBES, {}).get(name, {})
    now: JsonObject = {"losses": list(losses)}
    if largest := max(difference, before.get("difference", 0.0)):
        now["difference"] = largest
    if now != before:
        write_whole(record, json.dumps({**whole, PROBES: {**whole.get(PROBES, {}), name: now}}).encode())


@functools.lru_cache(maxsize=2)
def probe_vectors(name: str, threads: int) -> str:
    """The digest of the vectors of two batches' texts under the embedding model ``name``. Raises ModelError."""
    draw = np.random.default_rng(18)
    texts = [" ".join(draw.choice(_TEXT.split(), count)) for count in (3, 40, 9, 120, 1, 17) for _ in range(6)]
    found = hashlib.sha256()
    with embedding(threads):
        for members in plan_batches(texts):
            found.update(embed_batch(name, [texts[number] for number in members]).tobytes())
    return f"sha256:{found.hexdigest()[:20]}"


def kept_vectors(record: UPath, name: str) -> str | None:
    """The digest of the lake's; None where it has none under the embedding model ``name``."""
    found: str | None = _read(record).get(PROBES, {}).get(f"embedding {name}", {}).get("vectors")
    return found


def keep_vectors(record: UPath, name: str, vectors: str) -> None:
    """Keep the digest of the lake's."""
    whole = _read(record)
    probes = {**whole.get(PROBES, {}), f"embedding {name}": {"vectors": vectors}}
    write_whole(record, json.dumps({**whole, PROBES: probes}).encode())


def _read(record: UPath) -> JsonObject:
    return dict(json.loads(record.read_text("utf-8"))) if record.exists() else {}


def _passes(vocabulary: int, longest: int) -> list[ForwardPass]:
    """Of two prompts that begin alike, several responses each, with it and alone; cut to ``longest`` tokens."""
    draw = np.random.default_rng(18)

    def some(count: int) -> Tokens:
        return draw.integers(0, vocabulary, count).astype(np.int32)

    start, preamble = some(1), some(24)
    made = []
    for prompt in (np.concatenate([start, preamble, some(length)]) for length in _PROMPTS):
        for length in _RESPONSES:
            response = some(length)
            made += [(np.concatenate([prompt, response]), length), (np.concatenate([start, response]), length)]
    return [ForwardPass(tokens[:longest], min(count, longest - 1, len(tokens[:longest]) - 1)) for tokens, count in made]
