"""A figure as Dagster's UI shows it: Markdown with the plot as a picture, what it shows here, and how to read it."""

import base64
import re
from collections.abc import Iterable, Sequence

from star_pipeline.core.aliases import JsonObject
from star_pipeline.figures.base import Figure

# the UI shows a plot in a window of some 800 pixels; what is wider is shrunk, text and all
_WIDTH, _NARROWEST, _WIDEST = 660, 240, 440
_CHARACTER = 6
_INK, _SOFT, _GRID = "#1f2328", "#57606a", "#e4e8ec"
_TEXT = {"labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal", "labelColor": _INK, "titleColor": _SOFT}
_RAMP = ["#c9dcef", "#6ba3d6", "#08306b"]
_THEME: JsonObject = {
    # of one width, so that labels measured here fit where they are shown
    "font": "Liberation Sans, Arial, Helvetica, sans-serif",
    "background": "white",
    "padding": 8,
    "aria": False,
    "view": {"stroke": None},
    "title": {
        "anchor": "start",
        "frame": "bounds",
        "fontSize": 14,
        "subtitleFontSize": 11,
        "color": _INK,
        "subtitleColor": _SOFT,
        "offset": 10,
    },
    # no label is cut: the picture grows with its labels
    "axis": {**_TEXT, "labelLimit": 0, "gridColor": _GRID, "domainColor": _SOFT, "tickColor": _SOFT},
    "axisQuantitative": {"tickCount": 5},
    "legend": {
        **_TEXT,
        "labelLimit": 0,
        "titleLimit": 0,
        "symbolLimit": 40,
        "orient": "bottom",
        "direction": "horizontal",
    },
    "mark": {"color": "#4c78a8"},
    "range": {"ramp": _RAMP, "heatmap": _RAMP},
    "rule": {"color": _SOFT},
    "text": {"color": _INK, "fontSize": 11},
    "line": {"strokeWidth": 2},
}


def coverage(places: Sequence[int], of: int, seeds: int) -> str:
    """Which shards a plot covers, by their places from 1 to ``of``, in order: ``shards 3 to 6 of 12, 161 seeds``."""
    if not places:
        return f"none of {of:,} shards"
    first, last, count = places[0], places[-1], len(places)
    if first == last:
        shards = f"shard {first:,} of {of:,}"
    elif count == last - first + 1:
        shards = f"shards {first:,} to {last:,} of {of:,}"
    else:
        shards = f"{count:,} of {of:,} shards, from {first:,} to {last:,}"
    return f"{shards}, {seeds:,} seed{'' if seeds == 1 else 's'}"


def as_markdown(figure: Figure, covers: str) -> str:
    """The figure as Markdown; ``covers`` says which shards it is about, and is its subtitle. Without numbers it is a sentence."""
    said = f"{_plain(figure.finding)}\n\n{_plain(figure.reading)}"
    if figure.spec is None:
        return f"**{_plain(figure.title)}** ({_plain(covers)})\n\n{said}"
    picture = base64.b64encode(svg(figure, covers).encode()).decode()
    return f"![{_plain(f'{figure.title}, {covers}')}](data:image/svg+xml;base64,{picture})\n\n{said}"


def svg(figure: Figure, covers: str) -> str:
    """The plot, drawn by Vega. The first one in a process takes half a second, the others some 50 ms."""
    import altair as alt
    import vl_convert

    spec = dict(figure.spec or {})
    # the plot takes the room that the labels on its left and the texts on its right leave
    encodings = [layer.get("encoding", {}) for layer in (spec, *spec.get("layer", ()))]
    labels = _longest(name for at in encodings for name in at.get("y", {}).get("sort") or ())
    beside = _longest(row.get("said", "") for rows in spec["datasets"].values() for row in rows)
    named = _longest(name for at in encodings for name in at.get("color", {}).get("scale", {}).get("domain", ()))
    spec |= {
        "width": min(max(_WIDTH - labels - beside, _NARROWEST), _WIDEST),
        "title": {"text": figure.title, "subtitle": covers},
    }
    columns = max(1, _WIDTH // (named + 5 * _CHARACTER))
    theme = {**_THEME, "legend": {**_THEME["legend"], "columns": columns}}
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return str(vl_convert.vegalite_to_svg(spec, vl_version=version, config=theme))


def _longest(texts: Iterable[str]) -> int:
    """Roughly the pixels that the longest of the texts takes."""
    return _CHARACTER * max(map(len, texts), default=0)


def _plain(text: str) -> str:
    """Text as Markdown that shows it as it is: words of seeds must not become links or pictures."""
    return re.sub(r"([\\`*_\[\]<>!#|~&])", r"\\\1", " ".join(text.split()))
