"""The training sets that are compared on tuned models: of every arm one answer to each of the same instructions.

``selection`` (Table 4): the study's own arms. ``parts`` (Table 3): what the loop selects without one of its parts, on the same matrix; each
training seed is a run of its own. ``difficulty`` (Figure 2): of each instruction the answer whose IFD is lowest, in the middle or highest
among answers of like length, in the mean of two models' places, for a small and a larger target.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from star_pipeline.core import identity
from star_pipeline.core.aliases import Numbers, Values, Vectors
from star_pipeline.core.intervals import mid_ranks
from star_pipeline.core.records import IfdScore
from star_pipeline.core.study.arms import SeedOptions, chosen
from star_pipeline_tests.benchmarks.evidence.courses import Arm, Setting, run_course, seeds_of
from star_pipeline_tests.benchmarks.evidence.recorded import Matrix
from star_pipeline_tests.benchmarks.evidence.whole_tape import NAMES

Taught = tuple[tuple[str, str], ...]
"""(instruction, answer) of each row."""
M = 3
LENGTHS = 20
"""Classes of like length: of 300 instructions' answers about 165 each."""
LEVELS = ("low", "middle", "high")
WITHOUT_SCORES, PARTS_WITHOUT_SCORES = ("seeds", "random", "judge"), ("without gap",)


@dataclass(frozen=True)
class Job:
    """One training: ``target`` is small or large, ``rate`` None the one that is chosen for the target. ``tokens`` are the answers',
    as the small model counts them where they were scored, else None."""

    study: str
    arm: str
    target: str
    seed: int
    rows: Taught
    rate: float | None = None

    def at(self, rate: float) -> "Job":
        return replace(self, rate=rate)

    @property
    def trained(self) -> str:
        """Names what is trained, whatever study it is for: the same rows are not tuned on twice."""
        return identity.digest("tuned", self.target, self.seed, self.rate, [list(row) for row in self.rows], length=16)


def selection(given: Mapping[str, Sequence[SeedOptions]], arms: Sequence[str], seeds: Sequence[int]) -> Iterator[Job]:
    """The study's arms by calibration (``given``): ``star rank`` is what Eq. 1 selects with gaps of ranks, ``star`` with raw ones."""
    for arm in arms:
        rule, _, calibration = arm.partition(" ")
        rows = [chosen(rule, of, 0) for of in given[calibration or "none"]]  # type: ignore[arg-type]  # a rule's name
        taught = tuple((row.instruction, row.response) for row in rows)
        for seed in seeds:
            yield Job("selection", arm, "small", seed, taught)


def matrices(plain: Sequence[SeedOptions]) -> Mapping[str, Matrix]:
    """What evolution and selection see, whole and without one of the two: Eq. 7, the judge's π alone, the gaps' alone."""
    pairs = tuple(f"keep+{name}" for name in NAMES[1:])
    score = {
        (place, option.candidate.pair_id): option.score for place, given in enumerate(plain) for option in given.options
    }

    def of(what: str, base: str | None = None) -> Values:
        names = (base,) if base else pairs
        found = [[getattr(score[place, name], what) or 0.0 for name in names] for place in range(len(plain))]
        return np.array(found, dtype=np.float64)

    base = f"keep+{NAMES[0]}"
    asked = tuple(given.seed.instruction for given in plain)
    return {
        kind: Matrix(asked, pairs, base, of(what), np.zeros((len(plain), len(pairs))), of(what, base)[:, 0])
        for kind, what in (("both", "pi"), ("judge", "pi_llm"), ("gap", "pi_dual"))
    }


PARTS: Mapping[str, tuple[Arm, str]] = {
    "whole": (Arm("thompson, memory", "thompson", from_memory=1), "both"),
    "without memory": (Arm("thompson", "thompson"), "both"),
    "without evolution": (Arm("uniform, memory", "eq8", from_memory=1), "both"),
    "without judge": (Arm("thompson, memory", "thompson", from_memory=1), "gap"),
    "without gap": (Arm("thompson, memory", "thompson", from_memory=1), "judge"),
}


def parts(
    plain: Sequence[SeedOptions], vectors: Vectors, seeds: Sequence[int], names: Sequence[str] = tuple(PARTS)
) -> Iterator[Job]:
    """M pairs of ten a seed; π_dual's divisor is that of the shards of the matrix, whatever the run draws."""
    seen = matrices(plain)
    for name in names:
        arm, kind = PARTS[name]
        for seed in seeds:
            matrix, setting = seen[kind], Setting(M, len(plain), once=True, shard=32)
            outcome = run_course(arm, setting, matrix, vectors, seed)
            order = seeds_of(setting, matrix, seed)
            rows: dict[int, tuple[str, str]] = {}
            for place, picked in zip(order, outcome.picked, strict=True):
                given, slot = plain[int(place)], 0 if picked < 0 else int(picked) + 1
                rows[int(place)] = (given.seed.instruction, given.options[slot].candidate.response or "")
            yield Job("parts", name, "small", seed, tuple(rows[place] for place in sorted(rows)))


def difficulty(
    plain: Sequence[SeedOptions], seeds: Sequence[int], targets: Sequence[str], levels: Sequence[str] = LEVELS
) -> Iterator[Job]:
    places = difficulties([option.ifd for given in plain for option in given.options])
    count = len(NAMES)
    ranks = [places[start : start + count] for start in range(0, len(places), count)]
    for level in levels:
        taught = []
        for given, rank in zip(plain, ranks, strict=True):
            order = np.argsort(rank, kind="stable")
            there = [int(place) for place in order if not np.isnan(rank[place])]
            picked = there[{LEVELS[0]: 0, LEVELS[1]: len(there) // 2, LEVELS[2]: -1}[level]] if there else 0
            taught.append((given.seed.instruction, given.options[picked].candidate.response or ""))
        for target in targets:
            for seed in seeds:
                yield Job("difficulty", level, target, seed, tuple(taught))


def difficulties(rows: Sequence[IfdScore]) -> Values:
    """Of each answer the mean of the places, in (0, 1), that its two IFDs have among answers of like length; nan where there is none."""
    found = np.full(len(rows), np.nan)
    scored = [n for n, row in enumerate(rows) if row.ifd_small is not None and row.ifd_large is not None]
    lengths = np.asarray(mid_ranks([float(rows[n].n_tokens_small or 0) for n in scored]))
    classes: Numbers = np.floor(lengths * max(1, min(LENGTHS, len(scored) // 12))).astype(np.int64)
    for number in np.unique(classes):
        members = [scored[int(n)] for n in np.flatnonzero(classes == number)]
        small = np.asarray(mid_ranks([rows[n].ifd_small or 0.0 for n in members]))
        large = np.asarray(mid_ranks([rows[n].ifd_large or 0.0 for n in members]))
        found[members] = (small + large) / 2
    return found
