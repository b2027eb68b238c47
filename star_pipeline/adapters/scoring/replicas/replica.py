"""What lives in a process of the cluster: scoring models, and the batches that are computed under them. Imported there by its name."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from star_pipeline.adapters.scoring.batch_plan import ExecutionModes
from star_pipeline.adapters.scoring.numerics import Numerics
from star_pipeline.adapters.scoring.prefix_tree import ForwardPass
from star_pipeline.config.scoring import KeepLoaded
from star_pipeline.core.aliases import Vectors
from star_pipeline.core.errors import StarError


@dataclass(frozen=True)
class ReplicaModel:
    """A model by what it is loaded from, and by what its files must be; ``template`` says which of them count."""

    source: str
    weights: str
    template: str


@dataclass(frozen=True)
class Loaded:
    """What plans need to know of a model, and its losses of the probe."""

    borders: tuple[int, ...]
    ways: ExecutionModes
    probe: tuple[float, ...]


@dataclass(frozen=True)
class EmbeddingModel:
    """The embedding model by its name in the configuration: each machine finds its own copy."""

    name: str


@dataclass(frozen=True)
class LoadedEmbedding:
    """The digest of its vectors of the probe."""

    vectors: str


@dataclass(frozen=True)
class Refusal:
    """Why a replica cannot take part."""

    reason: str


class Replica:
    """An actor; it keeps models loaded as the local scorer does. What a user can mend comes back as a Refusal."""

    def __init__(self, numerics: Numerics, keep: KeepLoaded) -> None:
        self._numerics, self._keep = numerics, keep
        self._device = "cpu" if numerics.device == "cpu" else "cuda:0"

    def process(self) -> int:
        """Its number; that it answers tells that it has started."""
        return os.getpid()

    def load(self, model: ReplicaModel | EmbeddingModel) -> Loaded | LoadedEmbedding | Refusal:
        from star_pipeline.adapters.scoring.replicas.probe import probe_losses, probe_vectors

        try:
            if isinstance(model, EmbeddingModel):
                return LoadedEmbedding(probe_vectors(model.name, self._numerics.threads))
            if model.weights and (wrong := self._other_weights(model)):
                return Refusal(wrong)
            with self._numerics.in_force():
                lm = self._model(model)
                return Loaded(tuple(lm.lengths.borders), lm.ways, tuple(probe_losses(lm)))
        except StarError as error:
            return Refusal(str(error))

    def ways(self, model: ReplicaModel, sides: Sequence[int]) -> dict[int, ExecutionModes]:
        """How passes beyond so many borders are run."""
        with self._numerics.in_force():
            lm = self._model(model)
            return {side: lm.ways_of(side) for side in sides}

    def losses(
        self, model: ReplicaModel, passes: Sequence[ForwardPass], side: int, ways: ExecutionModes
    ) -> list[float] | Refusal | None:
        """The mean loss of each pass of a planned batch; None where memory did not suffice."""
        with self._numerics.in_force():
            lm = self._model(model)
            if lm.ways_of(side) != ways:
                return Refusal(f"runs scoring model {model.source!r} in another way ({lm.ways_of(side)}, not {ways})")
            means = lm.losses(passes, range(len(passes)))
        return None if means is None else [means[number] for number in range(len(passes))]

    def vectors(self, model: EmbeddingModel, texts: Sequence[str]) -> Vectors:
        """Of a planned batch."""
        from star_pipeline.adapters.embedder import embed_batch, embedding

        with embedding(self._numerics.threads):
            return embed_batch(model.name, texts)

    def _model(self, model: ReplicaModel):  # type: ignore[no-untyped-def]  # CausalLM, which is not imported with this module
        from star_pipeline.adapters.scoring import model_cache

        return model_cache.take(model.source, self._numerics, (self._device,), self._keep, model.weights)[0]

    def _other_weights(self, model: ReplicaModel) -> str:
        from star_pipeline.adapters.scoring.weights import weights_of

        # a tuned model's folder is named by what decides it, and is never changed
        if not model.weights.startswith(("sha256:", "commit:")):
            return ""
        found = weights_of(model.source, model.template)
        if found == model.weights:
            return ""
        return f"scoring model {model.source!r} is {found} there, and {model.weights} here; give both the same files"
