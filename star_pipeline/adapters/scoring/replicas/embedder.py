"""The port's embedder over the replicas that score: the same batches as in this process, and the same bytes."""

from collections.abc import Sequence

import numpy as np
from upath import UPath

from star_pipeline.adapters.embedder import SentenceEmbedder, plan_batches
from star_pipeline.adapters.scoring.batch_work import Batches
from star_pipeline.adapters.scoring.replicas import probe
from star_pipeline.adapters.scoring.replicas.cluster import need_ray
from star_pipeline.adapters.scoring.replicas.pool import ReplicaPool, pool_of
from star_pipeline.adapters.scoring.replicas.replica import EmbeddingModel, Loaded, LoadedEmbedding
from star_pipeline.adapters.scoring.replicas.scorer import settled_for_replicas
from star_pipeline.config.scoring import ScoringConfig
from star_pipeline.core.aliases import Vectors
from star_pipeline.core.ports import Progress


class RayEmbedder:
    """Embeds with its own ``here`` what is one batch, or wanted while replicas score. ``record`` is the file that keeps the lake's
    numerics and probes."""

    def __init__(self, here: SentenceEmbedder, scoring: ScoringConfig, record: UPath, progress: Progress) -> None:
        need_ray()
        self.here, self._scoring, self._record, self._progress = here, scoring, record, progress
        self._model = EmbeddingModel(here.name)

    def prepare(self) -> list[str]:
        """Start all replicas, and let them show that they embed as the lake's do; where those are that do."""
        pool = self._pool()
        self._own_are_the_lakes()
        with pool.turn:
            self._ready(pool, everyone=True)
            return pool.machines()

    def embed(self, texts: Sequence[str]) -> Vectors:
        batches = plan_batches(texts)
        own = not batches or self._own_are_the_lakes()
        if own and len(batches) <= 1:
            return self.here.embed(texts)
        pool = self._pool()
        # a shard's scoring takes long, and meanwhile this process has nothing to compute
        if not pool.turn.acquire(blocking=not own):
            return self.here.embed(texts)
        try:
            self._ready(pool)
            found: list[Vectors | None] = [None] * len(texts)
            work = Batches(batches, found.__setitem__)
            pool.compute(
                self._model,
                work,
                lambda actor, members: actor.vectors.remote(self._model, [texts[number] for number in members]),
            )
        finally:
            pool.turn.release()
        return np.stack([vector for vector in found if vector is not None])

    def _pool(self) -> ReplicaPool:
        """The scorers' own."""
        numerics = settled_for_replicas(self._record, self._scoring)
        return pool_of(self._scoring.ray, numerics, self._scoring.keep_loaded)

    def _ready(self, pool: ReplicaPool, everyone: bool = False) -> None:
        pool.tell = self._progress.note
        pool.ready(self._model, self._refusal, everyone)

    def _own_are_the_lakes(self) -> bool:
        """Whether this process embeds as the lake's vectors are; they are its own where the lake has none yet."""
        own = probe.probe_vectors(self.here.name, self.here.threads)
        kept = probe.kept_vectors(self._record, self.here.name)
        if kept is None:
            probe.keep_vectors(self._record, self.here.name, own)
        return kept in (None, own)

    def _refusal(self, loaded: Loaded | LoadedEmbedding) -> str:
        """Why a replica that gives this does not compute the lake's vectors; empty where it does."""
        assert isinstance(loaded, LoadedEmbedding)
        kept = probe.kept_vectors(self._record, self.here.name)
        if kept == loaded.vectors:
            return ""
        return (
            f"computes other vectors than the lake's under memory.embedding {self.here.name!r} ({loaded.vectors}, expected {kept}); take "
            "machines of one kind (processor, libraries) that have the same files of the model"
        )
