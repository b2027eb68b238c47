"""The figures, a module a section: each function takes the rows of a question and gives a Figure, whatever rows there are."""

from star_pipeline.report.figures import costs, judge, pairs, rows, scores
from star_pipeline.report.figures.base import Figure

__all__ = ["Figure", "costs", "judge", "pairs", "rows", "scores"]
