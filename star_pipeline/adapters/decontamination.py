"""Which rows and other candidates overlap with evaluation questions: in their own words, or in those of a row's seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from upath import UPath

from star_pipeline.adapters.lake import Lake, file_digest
from star_pipeline.adapters.question_files import read_questions
from star_pipeline.adapters.selected_rows import SelectedRows
from star_pipeline.config import StarConfig
from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.publishing.overlap import Overlaps
from star_pipeline.core.records import Seed, StarRow
from star_pipeline.core.tables import CANDIDATES, SEED_SHARDS

_OF_CANDIDATE = ("seed_id", "candidate_id", "instruction", "response")


def question_files(names: Sequence[str]) -> list[JsonObject]:
    """Each of ``dataset.decontaminate`` by its name without folders, with its SHA-256; none for what is no file here, but on the hub."""
    found: list[JsonObject] = []
    for name in names:
        path = Path(name)
        here = path.is_file()
        found.append({"file": path.name if here else name, "sha256": file_digest(UPath(path)) if here else None})
    return found


@dataclass(frozen=True)
class Overlapping:
    """What shares text with evaluation questions, each with what it shares with which, in words.

    ``rows`` by seed_id. ``candidates`` by candidate_id: those of all other rows' seeds that were not chosen, but may stand in a
    preference pair.
    """

    rows: dict[str, str]
    candidates: dict[str, str]


def overlapping(lake: Lake, config: StarConfig, selected: SelectedRows) -> Overlapping:
    """What ``dataset.decontaminate`` keeps out of the data set and out of the pairs made of its seeds; nothing where it names no file.

    A rewritten question is still that question: so the seed's own text counts as the row's does. Raises SeedError.
    """
    found = Overlapping({}, {})
    if not config.dataset.decontaminate:
        return found
    overlaps = Overlaps(read_questions(config.dataset.decontaminate, config.seed_fields))
    rows = {row.seed_id: row for row in selected.rows}
    for shard in selected.done:
        for seed in lake.read_table(SEED_SHARDS, shard):
            row = rows.get(seed.seed_id)
            if row and (said := _overlap(overlaps, seed, row)):
                found.rows[seed.seed_id] = said
        for candidate in lake.read_arrow(CANDIDATES, shard, list(_OF_CANDIDATE)).to_pylist():
            seed_id, name, instruction, response = (candidate[column] for column in _OF_CANDIDATE)
            row = rows.get(seed_id)
            if row is None or row.candidate_id == name or seed_id in found.rows:
                continue
            if overlap := overlaps.first([instruction or ""], [response or ""]):
                found.candidates[name] = f"it shares with {overlap.where}: {overlap.shared}"
    return found


def _overlap(overlaps: Overlaps, seed: Seed, row: StarRow) -> str | None:
    own = [turn.content for turn in row.messages if turn.role == "user"]
    answers = [turn.content for turn in row.messages if turn.role != "user"]
    for where, asked, told in (("it", own, answers), ("its seed", [seed.instruction], [seed.response])):
        if overlap := overlaps.first(asked, told):
            return f"{where} shares with {overlap.where}: {overlap.shared}"
    return None
