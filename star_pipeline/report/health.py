"""The report's first block: what the lake's own figures say against it, a line each, and what is fine in one line."""

from collections.abc import Sequence
from dataclasses import dataclass

from star_pipeline.core.health.lines import FINE, figure_in_words, too_few
from star_pipeline.core.records import HealthLine
from star_pipeline.figures.base import Row


@dataclass(frozen=True)
class Told:
    """A line: its figure in words beside the record's own texts."""

    line: HealthLine
    figure: str


@dataclass(frozen=True)
class HealthBlock:
    """``odd`` are the lines that are not fine, the worst first; ``fine`` and ``few`` name the others, ``all`` holds every line."""

    odd: tuple[Told, ...]
    fine: tuple[str, ...]
    few: tuple[str, ...]
    all: tuple[Told, ...]


def health_block(rows: Sequence[Row]) -> HealthBlock:
    """Of the rows of the view ``health``, in their order."""
    lines = [HealthLine(**row) for row in rows]
    told = tuple(Told(line, figure_in_words(line.unit, line.figure, line.low, line.high)) for line in lines)
    fine = [line for line in lines if line.verdict == FINE]
    return HealthBlock(
        tuple(one for one in told if one.line.verdict != FINE),
        tuple(line.signature for line in fine if not too_few(line)),
        tuple(line.signature for line in fine if too_few(line)),
        told,
    )
