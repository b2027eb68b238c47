"""What all figures share: the record of a figure, its colours, numbers as people read them, and how a chart becomes data."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from star_pipeline.core.aliases import JsonMapping, JsonObject

if TYPE_CHECKING:
    import altair as alt

# seven that stay apart with any kind of colour blindness (Okabe and Ito's, with purple for their yellow and black)
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#6a3f86")
_GREY = "#9a9a9a"
TOLD_APART = 2 * len(_COLOURS)
"""So many pairs have a colour and a dash of their own."""
_TABLE_ROWS = 60
_ROWS = "rows"
Row = JsonMapping
Column = tuple[str, str, Callable[[Any], str]]
"""(key of the row, title, how a value is written; Any: it is of the column's type)"""

_Drawn = str | list[int]
"""A colour, or the lengths of dashes and gaps."""


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
    spec: JsonMapping | None = None
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


def _spec(chart: "alt.TopLevelMixin", rows: Sequence[Row]) -> JsonObject:
    """The chart as Vega-Lite, as wide as its place in the page; colours of text and lines are the page's, light or dark."""
    spec: JsonObject = chart.properties(width="container").to_dict()
    spec.pop("config", None)
    spec.setdefault("datasets", {})[_ROWS] = [dict(row) for row in rows]
    return spec


def data() -> "alt.NamedData":
    """Stands for a chart's rows, which are put in at the end: Altair would validate and copy them again and again."""
    import altair as alt

    return alt.NamedData(name=_ROWS)


def colours(names: Sequence[str]) -> "alt.Scale":
    """The scale that gives each pair the same colour in every figure; pairs past the fourteenth are grey."""
    return _scale(names, [*_COLOURS, *_COLOURS], _GREY)


def dashes(names: Sequence[str]) -> "alt.Scale":
    """Beside ``colours``, for lines: the pairs that share a colour differ in their dashes."""
    return _scale(names, [*[[1, 0]] * len(_COLOURS), *[[5, 3]] * len(_COLOURS)], [1, 0])


def _scale(names: Sequence[str], values: Sequence[_Drawn], rest: _Drawn) -> "alt.Scale":
    import altair as alt

    return alt.Scale(domain=list(names), range=[*values, *[rest] * len(names)][: len(names)])


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


def stacked(
    rows: Sequence[Row],
    label: str,
    part: str,
    value: tuple[str, str],
    colours: Mapping[str, str],
    order: Sequence[str],
    axis: "alt.Axis",
    tooltip: Sequence["alt.Tooltip"],
    stack: Literal["zero", "normalize"] = "zero",
) -> "alt.Chart":
    """A bar for each ``label``, in ``order``, of its parts in the colours' order; ``value`` is (key of the row, title)."""
    import altair as alt

    there = {row[part] for row in rows}
    parts = [name for name in colours if name in there]
    key, title = value
    chart: alt.Chart = (
        alt.Chart(data())
        .mark_bar()
        .transform_calculate(order=f"indexof({json.dumps(parts)}, datum.{part})")
        .encode(
            x=alt.X(f"{key}:Q", title=title, axis=axis, stack=stack),
            y=alt.Y(f"{label}:N", title=None, sort=list(order)),
            color=alt.Color(
                f"{part}:N",
                title=None,
                scale=alt.Scale(domain=parts, range=[colours[name] for name in parts]),
                # what stands under the axis need not be said again
                legend=None if parts == [title] else alt.Legend(),
            ),
            order="order:Q",
            tooltip=list(tooltip),
        )
        .properties(height=26 * len(order))
    )
    return chart


def whole_ticks(low: int, high: int, most: int = 8) -> list[int]:
    """Whole numbers in [low, high] at even distances, at most ``most`` of them."""
    step = next(
        unit * 10**power for power in range(20) for unit in (1, 2, 5) if (high - low) // (unit * 10**power) < most
    )
    return list(range(-(-low // step) * step, high + 1, step))


def counting(low: int, high: int) -> "alt.Axis":
    """An axis of whole numbers from ``low`` to ``high``: Vega would put halves between few of them."""
    import altair as alt

    ticks = whole_ticks(low, high)
    return alt.Axis(format=",d", values=ticks, tickCount=len(ticks))


def beside(texts: Mapping[str, str], order: Sequence[str]) -> "alt.Chart":
    """A layer that writes a text at the right of each label's bar, outside of the axes; the labels are in ``order``."""
    import altair as alt

    chart: alt.Chart = (
        alt.Chart(alt.InlineData(values=[{"of": name, "said": texts[name]} for name in order]))
        .mark_text(align="left", dx=8)
        .encode(x=alt.value("width"), y=alt.Y("of:N", scale=alt.Scale(domain=list(order))), text="said:N")
    )
    return chart


def text(value: object) -> str:
    return "" if value is None else str(value)


def short(value: object) -> str:
    """A text in one line of at most 160 characters."""
    said = " ".join(str(value or "").split())
    return said if len(said) <= 160 else f"{said[:160]}…"


def whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def usd(value: float | None) -> str:
    return "" if value is None else f"{value:,.4f}"
