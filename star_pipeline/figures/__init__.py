"""The figures of the report and of Dagster's UI, a module a section: each function takes rows and gives a Figure, whatever rows.

The report embeds a Figure's Vega-Lite chart in its page; for the UI ``asset_figures`` makes the rows from a shard's records, and ``image``
the picture. No Dagster and no page here. Altair and vl-convert are imported in functions only, since the definitions load this package.
"""

from star_pipeline.figures import costs, judge, pairs, rows, scores, study
from star_pipeline.figures.base import Figure

__all__ = ["Figure", "costs", "judge", "pairs", "rows", "scores", "study"]
