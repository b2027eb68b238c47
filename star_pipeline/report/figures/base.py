"""What all figures share: the record of a figure, its colours, numbers as people read them, and how a chart becomes data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from star_pipeline.report.read import Row

if TYPE_CHECKING:
    import altair as alt

_COLOURS = (
    "#4c78a8",
    "#f58518",
    "#e45756",
    "#54a24b",
    "#b279a2",
    "#72b7b2",
    "#c9a227",
    "#9d755d",
    "#ff9da6",
    "#7f7f7f",
)
_TABLE_ROWS = 60
_ROWS = "rows"
Column = tuple[str, str, Callable[[Any], str]]
"""(key of the row, title, how a value is written)"""


@dataclass(frozen=True)
class Figure:
    """A plot with the words that stand beside it; ``spec`` is a Vega-Lite chart, None where there is nothing to plot.

    ``reading`` says how to read it, ``finding`` what it shows here (also the plot's text alternative), ``cells`` are its
    numbers, a row each, under ``titles``; ``note`` says what the table leaves out.
    """

    name: str
    title: str
    reading: str
    finding: str
    spec: Mapping[str, Any] | None = None
    titles: tuple[str, ...] = ()
    numeric: tuple[bool, ...] = ()
    cells: tuple[tuple[str, ...], ...] = ()
    note: str = ""


def figure(
    name: str,
    title: str,
    reading: str,
    finding: str,
    chart: "alt.TopLevelMixin",
    rows: Sequence[Row],
    columns: Sequence[Column],
    plotted: Sequence[Row] | None = None,
) -> Figure:
    """A figure of a chart and of the first ``rows`` of its numbers; ``plotted`` are the chart's data (None: the rows)."""
    shown = rows[:_TABLE_ROWS]
    return Figure(
        name,
        title,
        reading,
        finding,
        _spec(chart, rows if plotted is None else plotted),
        tuple(title for _, title, _ in columns),
        tuple(write not in (text, short) for _, _, write in columns),
        tuple(tuple(write(row[key]) for key, _, write in columns) for row in shown),
        f"the first {len(shown):,} of {len(rows):,} rows" if len(rows) > len(shown) else "",
    )


def _spec(chart: "alt.TopLevelMixin", rows: Sequence[Row]) -> dict[str, Any]:
    """The chart as Vega-Lite, as wide as its place in the page; colours of text and lines are the page's, light or dark."""
    spec: dict[str, Any] = chart.properties(width="container").to_dict()
    spec.pop("config", None)
    spec.setdefault("datasets", {})[_ROWS] = [dict(row) for row in rows]
    return spec


def data() -> Any:
    """Stands for a chart's rows, which are put in at the end: Altair would validate and copy them again and again."""
    import altair as alt

    return alt.NamedData(name=_ROWS)


def colours(names: Sequence[str]) -> Any:
    """The scale that gives each pair the same colour in every figure; pairs past the tenth are grey."""
    import altair as alt

    return alt.Scale(domain=list(names), range=[*_COLOURS, *["#9a9a9a"] * len(names)][: len(names)])


def intervals(
    rows: Sequence[Row], label: str, keys: tuple[str, str, str], title: str, form: str, line: float | None = None
) -> "alt.TopLevelMixin":
    """A dot and its interval for each row, in the rows' order. ``keys`` name centre, low and high; ``line`` marks a value."""
    import altair as alt

    centre, low, high = keys
    names = [row[label] for row in rows]
    y = alt.Y(f"{label}:N", sort=names, title=None)
    tooltip = [
        alt.Tooltip(f"{label}:N", title=" "),
        alt.Tooltip(f"{centre}:Q", title=title, format=".3f"),
        alt.Tooltip(f"{low}:Q", title="from", format=".3f"),
        alt.Tooltip(f"{high}:Q", title="to", format=".3f"),
    ]
    base = alt.Chart(data()).encode(y=y, tooltip=tooltip)
    bars = base.mark_bar(size=6, opacity=0.5).encode(
        x=alt.X(f"{low}:Q", title=title, axis=alt.Axis(format=form), scale=alt.Scale(zero=True)), x2=f"{high}:Q"
    )
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(x=f"{centre}:Q")
    layers = [bars, dots]
    if line is not None:
        layers.insert(0, alt.Chart(alt.InlineData(values=[{"at": line}])).mark_rule(strokeDash=[4, 4]).encode(x="at:Q"))
    return alt.layer(*layers).properties(height=24 * len(rows))


def text(value: Any) -> str:
    return "" if value is None else str(value)


def short(value: Any) -> str:
    """A text in one line of at most 160 characters."""
    said = " ".join(str(value or "").split())
    return said if len(said) <= 160 else f"{said[:160]}…"


def whole(value: Any) -> str:
    return "" if value is None else f"{value:,.0f}"


def number(value: Any) -> str:
    return "" if value is None else f"{value:.3f}"


def share(value: Any) -> str:
    return "" if value is None else f"{value:.1%}"


def usd(value: Any) -> str:
    return "" if value is None else f"{value:,.4f}"
