"""Which selected rows overlap with evaluation questions: in their own words, or in those of the seed that they were made from."""

from collections.abc import Sequence
from pathlib import Path

from upath import UPath

from star_pipeline.adapters.lake import Lake, file_digest
from star_pipeline.adapters.question_files import read_questions
from star_pipeline.adapters.selected_rows import SelectedRows
from star_pipeline.config import StarConfig
from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.publishing.overlap import Overlaps
from star_pipeline.core.records import Seed, StarRow
from star_pipeline.core.tables import SEED_SHARDS


def question_files(names: Sequence[str]) -> list[JsonObject]:
    """Each of ``dataset.decontaminate`` by its name without folders, with its SHA-256; none for what is no file here, but on the hub."""
    found: list[JsonObject] = []
    for name in names:
        path = Path(name)
        here = path.is_file()
        found.append({"file": path.name if here else name, "sha256": file_digest(UPath(path)) if here else None})
    return found


def overlapping_rows(lake: Lake, config: StarConfig, selected: SelectedRows) -> dict[str, str]:
    """seed_id -> what it shares with which question, in words; nothing where ``dataset.decontaminate`` names no file.

    A rewritten question is still that question: so the seed's own text counts as the row's does. Raises SeedError.
    """
    if not config.dataset.decontaminate:
        return {}
    overlaps = Overlaps(read_questions(config.dataset.decontaminate, config.seed_fields))
    rows = {row.seed_id: row for row in selected.rows}
    found: dict[str, str] = {}
    for shard in selected.done:
        for seed in lake.read_table(SEED_SHARDS, shard):
            row = rows.get(seed.seed_id)
            if row and (said := _overlap(overlaps, seed, row)):
                found[seed.seed_id] = said
    return found


def _overlap(overlaps: Overlaps, seed: Seed, row: StarRow) -> str | None:
    own = [turn.content for turn in row.messages if turn.role == "user"]
    answers = [turn.content for turn in row.messages if turn.role != "user"]
    for where, asked, told in (("it", own, answers), ("its seed", [seed.instruction], [seed.response])):
        if overlap := overlaps.first(asked, told):
            return f"{where} shares with {overlap.where}: {overlap.shared}"
    return None
