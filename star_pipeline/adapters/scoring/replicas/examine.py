"""What ``doctor`` asks of a Ray cluster: machines, packages, and whether each replica computes the lake's values."""

import functools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from upath import UPath

from star_pipeline.adapters.embedder import SentenceEmbedder, on_replicas, threads_of
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.offline.models import trained_models
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.adapters.scoring import open_scorer
from star_pipeline.adapters.scoring.replicas import pool
from star_pipeline.adapters.scoring.replicas.embedder import RayEmbedder
from star_pipeline.adapters.scoring.replicas.scorer import RayScorer
from star_pipeline.config.scoring import ScoringConfig


class _Notes(SilentProgress):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def note(self, text: str) -> None:
        self.heard.append(text)


def examine_cluster(
    scoring: ScoringConfig, names: Sequence[str], embedding: str, lake: Lake
) -> Iterator[tuple[bool, str]]:
    """Whether all is well, and a line, of each thing looked at. Replicas are started and ended. Raises ModelError, ConfigError."""
    usable, wrong = pool.check_room(scoring)
    for line in wrong.values():
        yield False, line
    said = f"{sum(one.gpus for one in usable):g} GPUs and {sum(one.cpus for one in usable):g} CPUs"
    yield True, f"{scoring.ray.address}: {len(usable):,} machines with the packages of this one, {said}"
    trained = trained_models(Path(lake.local(lake.models)))
    try:
        with tempfile.TemporaryDirectory() as folder:
            record = UPath(Path(folder) / "numerics.json")  # a lake's numerics are settled by its first scores
            if lake.numerics.exists():
                record.write_bytes(lake.numerics.read_bytes())
            for name in dict.fromkeys(names):
                if name.startswith("offline/") and name not in trained:
                    continue  # the run trains it first
                told = _Notes()
                scorer = open_scorer(name, scoring, lake, told, record)
                assert isinstance(scorer, RayScorer)
                yield from _prepared(name, scorer, told)
            if on_replicas(scoring):
                told = _Notes()
                here = SentenceEmbedder(embedding, functools.partial(threads_of, record, scoring))
                yield from _prepared(f"embedding {embedding}", RayEmbedder(here, scoring, record, told), told)
    finally:
        pool.close_all()


def _prepared(name: str, model: RayScorer | RayEmbedder, told: _Notes) -> Iterator[tuple[bool, str]]:
    machines = model.prepare()
    yield from ((False, note) for note in told.heard if note.startswith("no scoring on"))
    yield True, f"{name}: {len(machines):,} replicas give the lake's values, on {', '.join(sorted(set(machines)))}"
