"""Every recorded answer under two real models: scored by the product's own command, and put together by its equations, without a call.

``real_models`` runs the product's loop, with its calls, on as many instructions as a machine can score in an hour. This is the same
matrix by a shorter way for the whole tape: ``score_file`` (the command ``star-pipeline score``) for Eq. 4, π_llm off the tape, and the
core's own functions for Eq. 5, 7 and 1, shard by shard.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from star_pipeline.adapters.lake import Lake
from star_pipeline.commands.score import score_file
from star_pipeline.config import StarConfig
from star_pipeline.core import identity
from star_pipeline.core.aliases import JsonMapping, JsonObject
from star_pipeline.core.equations.calibration import Calibration, calibrated
from star_pipeline.core.equations.composite import composite_scores
from star_pipeline.core.ports import Progress
from star_pipeline.core.records import Candidate, CompositeScore, IfdScore, JudgeVerdict, PlanRow, Seed, Verdict
from star_pipeline.core.study.arms import SeedOptions, options_of
from star_pipeline.core.tables import IFD_SCORES
from star_pipeline_tests.benchmarks.evidence.recorded import CHATGPT, TEN, verdict

SHARD = 64
NAMES = (CHATGPT, *TEN)
"""Slot 0 is the reference."""


@dataclass(frozen=True)
class Tape:
    """``rows`` are the usable recorded questions, in the order drawn by their text; ``seeds_by``: whose answers the seeds have."""

    rows: Sequence[JsonMapping]
    seeds_by: str

    def seed(self, place: int) -> Seed:
        row = self.rows[place]
        return Seed(name_of(row), "tape", place, None, (), row["instruction"], row["answers"][self.seeds_by]["output"])

    def candidates(self, place: int) -> list[Candidate]:
        row = self.rows[place]
        return [
            Candidate(
                candidate_id(row, name), name_of(row), slot, f"keep+{name}", row["instruction"], row["answers"][name]["output"],
                "ok", None, None, 1, 0, 0, 0.0, 0.0,
            )
            for slot, name in enumerate(NAMES)
        ]  # fmt: skip  # a construction

    def verdicts(self, place: int) -> list[JudgeVerdict]:
        """GPT-4's preference for each answer beside the reference's."""
        row = self.rows[place]
        base = row["answers"][CHATGPT]["win"]
        said: dict[float, Verdict] = {1.0: "better", 0.5: "tie", 0.0: "worse"}
        found = []
        for name in TEN:
            pi_llm = verdict(row["answers"][name]["win"], base)
            ids = candidate_id(row, name), name_of(row), candidate_id(row, CHATGPT)
            unheard = None, None, False
            found.append(JudgeVerdict(*ids, None, said[pi_llm], *unheard, pi_llm, None, None, None, 1, 0, 0, 0.0))
        return found


def name_of(row: JsonMapping) -> str:
    return hashlib.sha256(row["instruction"].encode()).hexdigest()


def candidate_id(row: JsonMapping, name: str) -> str:
    return identity.digest("recorded", name_of(row), name, length=20)


def scored_answers(tape: Tape, config: StarConfig, folder: Path, progress: Progress) -> list[list[IfdScore]]:
    """The IFDs of every answer, by question; kept in FOLDER/answers.parquet, and going on where it was stopped."""
    source, target = folder / "answers.json", folder / "answers.parquet"
    records = [
        {"instruction": row["instruction"], "output": row["answers"][name]["output"]} for row in tape.rows for name in NAMES
    ]  # fmt: skip  # one list
    text = json.dumps(records)
    if not source.exists() or source.read_text("utf-8") != text:
        source.write_text(text, "utf-8")
    score_file(str(source), str(target), config, Lake.at(folder / "scoring"), progress)
    return read_scores(tape, folder)


def read_scores(tape: Tape, folder: Path) -> list[list[IfdScore]]:
    found = iter(IFD_SCORES.from_arrow(pq.read_table(folder / "answers.parquet")))
    scores = [
        [replace(next(found), candidate_id=candidate_id(row, name), seed_id=name_of(row)) for name in NAMES]
        for row in tape.rows
    ]
    if next(found, None) is not None:
        raise SystemExit(f"{folder / 'answers.parquet'} holds more answers than the tape: made with other settings")
    return scores


def options(
    tape: Tape, scores: Sequence[Sequence[IfdScore]] | None, rule: Calibration, of: Sequence[int]
) -> list[SeedOptions]:
    """The questions ``of`` with their candidates and Eq. 5, 7 and 1, in shards of SHARD; without ``scores`` there are no gaps."""
    found = []
    for start in range(0, len(of), SHARD):
        places = of[start : start + SHARD]
        shard = f"{start // SHARD + 1:06}-tape"
        seeds = [tape.seed(place) for place in places]
        candidates = [row for place in places for row in tape.candidates(place)]
        if scores is None:
            ifd = [IfdScore(row.candidate_id, row.seed_id, "no_candidate", False) for row in candidates]
        else:
            ifd = calibrated([row for place in places for row in scores[place]], rule)
        composite = composite_scores(
            plan_of(candidates), candidates, ifd, [row for place in places for row in tape.verdicts(place)],
            {row.seed_id: row.candidate_id for row in candidates if row.slot == 0}, "p95", "shard",
        )  # fmt: skip  # one call
        found += options_of(shard, seeds, candidates, ifd, composite)
    return found


def plan_of(candidates: Sequence[Candidate]) -> list[PlanRow]:
    return [
        PlanRow(
            row.candidate_id, row.seed_id, row.slot, row.pair_id, "keep", row.pair_id.split("+")[1],
            "explore" if row.slot else "base", None, "", (), (), (),
        )
        for row in candidates
    ]  # fmt: skip  # a construction


def lines(plain: Sequence[SeedOptions], ranked: Sequence[SeedOptions]) -> Iterator[JsonObject]:
    """A line an answer, numbers alone: what parts.py simulates with. π_dual and what is selected are those without calibration."""
    for given, other in zip(plain, ranked, strict=True):
        ranks: Mapping[str, CompositeScore] = {option.candidate.candidate_id: option.score for option in other.options}
        for option in given.options:
            of, row = option.ifd, option.score
            yield {
                "seed": row.seed_id, "pair": row.pair_id, "slot": row.slot, "status": of.status, "truncated": of.truncated,
                "n_tokens": of.n_tokens_small, "n_tokens_large": of.n_tokens_large, "ifd_small": of.ifd_small, "ifd_large": of.ifd_large,
                "nll_given": of.nll_given_small, "gap": of.gap, "gap_calibrated": ranks[row.candidate_id].gap_calibrated,
                "pi_llm": row.pi_llm, "pi_dual": row.pi_dual, "selected": row.selected, "shard": given.shard,
            }  # fmt: skip  # a group a line
