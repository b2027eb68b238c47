"""The port's scorer over replicas on a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from upath import UPath

from star_pipeline.adapters.scoring.batch_plan import side_of
from star_pipeline.adapters.scoring.numerics import Numerics, recorded_in, settled_in
from star_pipeline.adapters.scoring.pass_scorer import PassScorer
from star_pipeline.adapters.scoring.replicas import probe
from star_pipeline.adapters.scoring.replicas.cluster import need_ray
from star_pipeline.adapters.scoring.replicas.pool import pool_of
from star_pipeline.adapters.scoring.replicas.replica import Loaded, ReplicaModel
from star_pipeline.config.scoring import KeepLoaded, RayConfig, ScoringConfig
from star_pipeline.core.equations.ifd_templates import Start
from star_pipeline.core.errors import ModelError
from star_pipeline.core.ports import Progress

if TYPE_CHECKING:
    from star_pipeline.adapters.scoring.paired_losses import GroupedLosses

_MARGIN = 1.3
"""Times the weights' size: what a model needs while it is loaded and run."""


class RayScorer(PassScorer):
    """Replicas load the model when losses are first asked for. ``record`` is the file that keeps the lake's numerics and its probes."""

    def __init__(
        self,
        source: str,
        numerics: Numerics,
        template: str,
        max_length: int,
        *,
        settings: RayConfig,
        record: UPath,
        batch_tokens: int | None = None,
        keep: KeepLoaded = "auto",
        progress: Progress | None = None,
        weights: str = "",
        start: Start = "token",
        alone: bool = True,
    ) -> None:
        need_ray()
        super().__init__(
            source, numerics, template, max_length,
            batch_tokens=batch_tokens, progress=progress, weights=weights, start=start, alone=alone,
        )  # fmt: skip
        self._settings, self._record = settings, record
        self._model = ReplicaModel(source, weights, template)
        self._named = f"{weights or source} in {numerics.dtype} on {numerics.device}"
        self._pool = pool_of(settings, numerics, keep)

    def prepare(self) -> list[str]:
        """Start all replicas, load the model, and let them show that they compute the lake's values; where those are that do."""
        with self._pool.turn:
            self._loaded(everyone=True)
            return self._pool.machines()

    def _compute(self, found: GroupedLosses) -> None:
        with self._pool.turn:
            loaded = self._loaded()
            borders = loaded.borders
            sides = sorted({side_of(borders, len(item.tokens)) for item in found.passes} - {0})
            ways = {0: loaded.ways, **(self._pool.ways(self._model, sides) if sides else {})}
            work = self._planned(found, borders, ways.__getitem__)

            def send(actor: Any, members: list[int]) -> Any:
                passes = [work.passes[number] for number in members]
                side = side_of(borders, max(len(item.tokens) for item in passes))
                return actor.losses.remote(self._model, passes, side, ways[side])

            self._pool.compute(self._model, work, send)
        self._learn(work)

    def _loaded(self, everyone: bool = False) -> Loaded:
        self._pool.tell = self._progress.note if self._progress else lambda text: None
        self._expect()
        loaded = self._pool.ready(self._model, self._refusal, everyone)
        assert isinstance(loaded, Loaded)
        return loaded

    def _expect(self) -> None:
        """What every replica's probe has to be: the lake's, which this process computes where it has none yet and can."""
        if probe.kept_losses(self._record, self._named) is not None or self._numerics.device != "cpu":
            return
        import psutil

        from star_pipeline.adapters.scoring import causal_lm

        if causal_lm.weight_bytes(self._source, self._numerics.dtype) * _MARGIN > psutil.virtual_memory().available:
            return
        with self._numerics.in_force():
            losses = probe.probe_losses(causal_lm.load(self._source, self._numerics.dtype, "cpu"))
        probe.keep(self._record, self._named, losses)

    def _refusal(self, loaded: Loaded) -> str:
        """Why a replica that gives this does not compute the lake's values; empty where it does. The first of all gives them where
        the lake has none."""
        expected = probe.kept_losses(self._record, self._named)
        if expected is None:
            probe.keep(self._record, self._named, loaded.probe)
            if self._progress:
                self._progress.note(
                    f"the first replica's values under {self._source} are the lake's: others must give the same"
                )
            return ""
        difference = probe.largest_difference(expected, loaded.probe)
        if difference > self._settings.tolerance:
            allowed = f"{self._settings.tolerance:g}" if self._settings.tolerance else "no bit"
            return (
                f"computes other values than the lake's: losses of the probe under {self._source!r} differ by up to {difference:.2g} nats, "
                f"allowed is {allowed}; take machines of one kind (processor, GPU, libraries), or allow it with scoring.ray.tolerance"
            )
        probe.keep(self._record, self._named, expected, difference)
        return ""


def settled_for_replicas(record: UPath, scoring: ScoringConfig) -> Numerics:
    """The lake's numerics; its first scores are computed as ``scoring.ray`` says. Raises ModelError where these differ from it."""
    settings, recorded = scoring.ray, recorded_in(record)
    kind = "cuda" if settings.gpus else "cpu"
    if recorded and recorded.device != kind:
        other = "0" if recorded.device == "cpu" else "1"
        raise ModelError(
            f"scoring.ray.gpus: {settings.gpus:g}, and the lake's scores are computed on {recorded.device}; set scoring.ray.gpus: {other}, "
            "or use another lake"
        )
    if recorded and kind == "cpu" and settings.cpus not in (None, recorded.threads):
        raise ModelError(
            f"scoring.ray.cpus: {settings.cpus}, and the lake's scores are computed with {recorded.threads} threads, on which last digits "
            "may depend; leave scoring.ray.cpus out, or use another lake"
        )
    return settled_in(record, scoring.dtype, kind, here=False, threads=settings.cpus, compiled=scoring.compile_layers)
