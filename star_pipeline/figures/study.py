"""A study: differences between arms with their intervals, how they go with the target's size, the radar by category, and tables."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from star_pipeline.core.study.conclusion import WORDS
from star_pipeline.core.study.names import UNTUNED
from star_pipeline.figures.base import Column, Figure, Row, colours, dashes, data, figure, text, usd, whole
from star_pipeline.figures.target_names import short_target, size_of

_RADAR = 400
_TOP = 10
"""The highest grade."""
_ZERO = [{"at": 0}]
_SURE = ("better", "worse")


def effects(rows: Sequence[Row], arms: Sequence[str]) -> list[Figure]:
    """A dot-and-whisker plot a measure. ``rows``: those of the query study_summary; ``arms``: in their order."""
    measures = sorted(dict.fromkeys(row["measure"] for row in rows), key=_place)
    return [_effect(measure, [row for row in rows if row["measure"] == measure], arms) for measure in measures]


def scaling(rows: Sequence[Row], arms: Sequence[str]) -> list[Figure]:
    """The arms by target size, a plot a measure; none with one target. ``rows``: those of the query study_summary."""
    targets = list(dict.fromkeys(row["target"] for row in rows))
    if len(targets) < 2:
        return []
    by_measure = {measure: [row for row in rows if row["measure"] == measure] for measure in WORDS}
    return [_scaling(name, own, arms) for name, own in by_measure.items() if len({row["target"] for row in own}) > 1]


def radars(rows: Sequence[Row], arms: Sequence[str]) -> list[Figure]:
    """Mean grades by category, a radar a target; none with fewer than three categories. ``rows``: those of study_categories."""
    graded = [row for row in rows if row["measure"] == "grade"]
    targets = list(dict.fromkeys(row["target"] for row in graded))
    found = []
    for place, target in enumerate(targets, 1):
        own = [row for row in graded if row["target"] == target]
        if len({row["part"] for row in own}) >= 3:
            found.append(_radar(f"radar-{place}", target if len(targets) > 1 else None, own, arms))
    return found


def results(rows: Sequence[Row]) -> Figure:
    """All that is told of all questions, as numbers. ``rows``: those of the query study_summary."""
    columns = (
        ("arm", "arm", text),
        ("said", "measure", text),
        ("target", "target", short_target),
        ("figure", "figure", _plain),
        ("difference", "difference", _signed),
        ("difference_low", "low", _signed),
        ("difference_high", "high", _signed),
        ("p_holm", "p (Holm)", _p),
        ("n", "n", whole),
        ("needed", "questions needed", whole),
        ("shown", "shown", text),
        ("tuning", "from untuned", _signed),
        ("tuning_shown", "than untuned", text),
    )
    told = [
        {**row, "said": _said(row), "shown": row["shown"] or "compared with", "tuning_shown": row["tuning_shown"] or ""}
        for row in sorted(rows, key=lambda row: _place(row["measure"]))
    ]
    reading = (
        "A row a measure and arm. difference: from the arm that is compared with, paired by question; low and high: its 95% interval; "
        "p: after Holm's correction over the arms; n: questions; questions needed: so many show a difference as the one seen 4 times of 5; "
        "from untuned: the difference that tuning makes. "
        "By category: star-pipeline query study_categories."
    )
    shown = sum(row["shown"] in _SURE for row in rows)
    compared = sum(row["difference"] is not None for row in rows)
    finding = f"{shown:,} of {compared:,} comparisons show a difference."
    return _table("study-results", "Every comparison", reading, finding, told, columns)


def costs(rows: Sequence[Row]) -> Figure:
    """The arms and their costs. ``rows``: those of the query study_cost."""
    columns = (
        ("arm", "arm", text),
        ("rows", "rows", whole),
        ("tokens", "tokens", whole),
        ("tokens_beside_seeds", "tokens beside seeds", _signed_share),
        ("left_out_overlap", "left out for overlap", whole),
        ("rows_usd", "its rows, USD", usd),
        ("trainings", "models measured", whole),
        ("judged_usd", "judging, USD", usd),
    )
    reading = (
        "A row a training set, all of the same seeds. tokens: of the responses, in an epoch. left out for overlap: seeds that share "
        "13 words in a row with a question, and are in no arm. its rows: LLM calls that made the candidates it chooses from, and their "
        "verdicts where its rule looks at them; empty for another lake's."
    )
    judged = sum(row["judged_usd"] for row in rows)
    sets = sum(row["rule"] != UNTUNED for row in rows)
    overlap = max((row["left_out_overlap"] for row in rows), default=0)
    finding = (
        f"{sets:,} training sets of {max(row['rows'] for row in rows):,} rows; {overlap:,} seeds left out for overlap with the "
        f"questions; judging cost {usd(judged)} USD."
    )
    return _table("study-arms", "Training sets, and what they cost", reading, finding, rows, columns)


def _effect(measure: str, rows: Sequence[Row], arms: Sequence[str]) -> Figure:
    import altair as alt

    told = [row for row in rows if row["difference"] is not None]
    title = f"{_capital(WORDS[measure]) if measure in WORDS else measure}: difference by arm"
    better = rows[0]["better"]
    baselines = " or ".join(dict.fromkeys(row["baseline"] for row in rows))
    reading = (
        f"Each dot is an arm's {WORDS.get(measure, measure)} minus that of {baselines}, paired by question; {better} is better. The line "
        "is the 95% interval: where it crosses the dashed zero no difference is shown. Full dots are shown after Holm's correction, hollow "
        "ones are not."
    )
    name = f"study-{re.sub(r'[^a-z0-9_]+', '-', measure.lower()).strip('-')}"
    if not told:
        return Figure(name, title, reading, "There is one arm alone, and nothing to compare it with.")
    several = {"target": len({row["target"] for row in told}) > 1, "part": len({row["part"] for row in told}) > 1}
    plotted = [
        {
            **row,
            "place": ", ".join(
                [
                    *([short_target(row["target"])] if several["target"] else []),
                    *([row["part"]] if several["part"] else []),
                ]
            ),
            "sure": row["shown"] in _SURE,
        }
        for row in told
    ]
    grouped = any(several.values())
    there = [arm for arm in arms if any(row["arm"] == arm for row in told)]
    places = list(dict.fromkeys(row["place"] for row in plotted))
    colour = alt.Color(
        "arm:N", title=None, scale=colours(arms), legend=alt.Legend(orient="bottom") if grouped else None
    )
    base = alt.Chart(data()).encode(
        y=alt.Y("place:N", sort=places, title=None) if grouped else alt.Y("arm:N", sort=there, title=None),
        tooltip=[
            *(alt.Tooltip(f"{key}:N") for key in ("target", "part", "arm")),
            alt.Tooltip("figure:Q", format=".4~g"),
            *(
                alt.Tooltip(f"{key}:Q", title=said, format="+.3~g")
                for key, said in (("difference", "difference"), ("difference_low", "from"), ("difference_high", "to"))
            ),
            alt.Tooltip("p_holm:Q", title="p (Holm)", format=".3f"),
            alt.Tooltip("n:Q", title="questions", format=","),
            alt.Tooltip("shown:N"),
        ],
        yOffset=alt.YOffset("arm:N", sort=there) if grouped else alt.Undefined,
    )
    axis = alt.X(
        "difference_low:Q",
        title=f"difference from {baselines} ({better} is better)",
        scale=alt.Scale(zero=True, padding=12),
    )
    whiskers = base.mark_rule(strokeWidth=3).encode(x=axis, x2="difference_high:Q", color=colour)
    dots = base.mark_point(size=90, opacity=1, strokeWidth=2.5, filled=False).encode(
        x="difference:Q",
        stroke=alt.Stroke("arm:N", scale=colours(arms), legend=None),
        fill=alt.Fill("arm:N", scale=colours(arms), legend=None),
        fillOpacity=alt.condition("datum.sure", alt.value(1), alt.value(0)),
    )
    zero = alt.Chart(alt.InlineData(values=_ZERO)).mark_rule(strokeDash=[4, 4], color="#8a8a8a").encode(x="at:Q")
    height = (18 * len(there) + 14) * len(places) if grouped else 34 * len(there)
    chart = alt.layer(zero, whiskers, dots).properties(height=height)
    columns = (
        ("arm", "arm", text),
        ("place", "of", text),
        ("difference", "difference", _signed),
        ("difference_low", "from", _signed),
        ("difference_high", "to", _signed),
        ("words", "in words", text),
    )
    return figure(name, title, reading, _shown(plotted), chart, plotted, columns)


def _shown(rows: Sequence[Row]) -> str:
    """Which arms are better and worse, of how many; no difference said plainly."""
    said = []
    for place in dict.fromkeys(row["place"] for row in rows):
        own = [row for row in rows if row["place"] == place]
        parts = [
            f"{' and '.join(row['arm'] for row in own if row['shown'] == shown)} {words}"
            for shown, words in (
                ("better", "better"), ("worse", "worse"), ("seeds disagree", "not the same by training seed"),
                ("no difference shown", "no difference shown"),
            )
            if any(row["shown"] == shown for row in own)
        ]  # fmt: skip  # a word each
        said.append((f"{place}: " if place else "") + ", ".join(parts))
    return f"{'; '.join(said)}."


def _scaling(measure: str, rows: Sequence[Row], arms: Sequence[str]) -> Figure:
    import altair as alt

    words, better = WORDS[measure], rows[0]["better"]
    sizes = {row["target"]: size_of(row["target"]) for row in rows}
    measured = all(sizes.values())
    order = sorted(sizes, key=lambda target: sizes[target] or 0.0) if measured else list(sizes)
    told = [{**row, "size": sizes[row["target"]], "name": short_target(row["target"])} for row in rows]
    told.sort(key=lambda row: (order.index(row["target"]), arms.index(row["arm"]) if row["arm"] in arms else len(arms)))
    x: alt.X = (
        alt.X(
            "size:Q",
            title="parameters of the target",
            scale=alt.Scale(type="log", padding=20),
            axis=alt.Axis(
                format="~s",
                values=[size for size in sizes.values() if size],
                labelExpr="replace(datum.label, 'G', 'B')",
            ),
        )
        if measured
        else alt.X("name:N", title="target", sort=[short_target(name) for name in order])
    )
    base = alt.Chart(data()).encode(
        x=x,
        color=alt.Color("arm:N", title=None, scale=colours(arms), legend=alt.Legend(orient="bottom")),
        tooltip=[
            alt.Tooltip("target:N"),
            alt.Tooltip("arm:N"),
            alt.Tooltip("figure:Q", title=words, format=".4~g"),
            alt.Tooltip("figure_low:Q", title="from", format=".4~g"),
            alt.Tooltip("figure_high:Q", title="to", format=".4~g"),
        ],
    )
    y = alt.Y("figure:Q", title=f"{words} ({better} is better)", scale=alt.Scale(zero=False, padding=10))
    chart = alt.layer(
        base.mark_rule(opacity=0.5, strokeWidth=2).encode(
            y=alt.Y("figure_low:Q", scale=alt.Scale(zero=False)), y2="figure_high:Q"
        ),
        base.mark_line(strokeWidth=2).encode(y=y, strokeDash=alt.StrokeDash("arm:N", scale=dashes(arms), legend=None)),
        base.mark_point(filled=True, size=60, opacity=1).encode(y=y),
    ).properties(height=300)
    reading = (
        f"The same arms by the target's size{', as its name tells it' if measured else ', in the order of the tables'} (the "
        "paper's Figure 2). Lines join an arm's means, the bars are their 95% intervals over "
        "questions. Arms answer the same questions, so that a difference may be shown where these bars overlap: the plot of "
        "differences tells."
    )
    firsts = [_first([row for row in told if row["target"] == target]) for target in order]
    pairs = ", ".join(f"{arm} for {short_target(target)}" for arm, target in zip(firsts, order, strict=True))
    finding = f"By the mean alone the first is {firsts[0] + ' for every target' if len(set(firsts)) == 1 else pairs}."
    columns = (
        ("name", "target", text),
        ("arm", "arm", text),
        ("figure", words, _plain),
        ("figure_low", "from", _plain),
        ("figure_high", "to", _plain),
    )
    return figure(f"scaling-{measure}", f"{_capital(words)} by target size", reading, finding, chart, told, columns)


def _first(rows: Sequence[Row]) -> str:
    pick = min if rows[0]["better"] == "lower" else max
    return str(pick(rows, key=lambda row: row["figure"])["arm"])


def _radar(name: str, target: str | None, rows: Sequence[Row], arms: Sequence[str]) -> Figure:
    import altair as alt

    spokes = list(dict.fromkeys(row["part"] for row in rows))
    there = [arm for arm in arms if any(row["arm"] == arm for row in rows)]
    by_place = {(row["arm"], row["part"]): row for row in rows}
    told = []
    for arm in there:
        own = [spoke for spoke in spokes if (arm, spoke) in by_place]
        for order, spoke in enumerate([*own, *own[:1]]):  # the first again closes the line
            row = by_place[arm, spoke]
            at = _on(spokes.index(spoke), len(spokes), row["figure"])
            told.append({**row, "x": at[0], "y": at[1], "order": order})
    rings = [
        {"ring": grade, "order": place, **dict(zip("xy", _on(place, len(spokes), grade), strict=True))}
        for grade in range(2, _TOP + 1, 2)
        for place in range(len(spokes) + 1)
    ]
    ends = [
        (_on(place, len(spokes), _TOP), _on(place, len(spokes), _TOP * 1.08), spoke)
        for place, spoke in enumerate(spokes)
    ]
    axes = [{"x": 0, "y": 0, "x2": end[0], "y2": end[1]} for end, _, _ in ends]
    room = alt.Scale(domain=[-_TOP * 1.55, _TOP * 1.55], nice=False)
    flat = alt.Scale(domain=[-_TOP * 1.2, _TOP * 1.2], nice=False)
    x, y = alt.X("x:Q", axis=None, scale=room), alt.Y("y:Q", axis=None, scale=flat)
    grey = "#a8a8a8"
    grid = (
        alt.Chart(alt.InlineData(values=rings))
        .mark_line(color=grey, strokeWidth=0.6)
        .encode(x=x, y=y, detail="ring:N", order="order:Q")
    )
    rods = (
        alt.Chart(alt.InlineData(values=axes))
        .mark_rule(color=grey, strokeWidth=0.6)
        .encode(x=x, y=y, x2="x2:Q", y2="y2:Q")
    )
    marks = (
        alt.Chart(alt.InlineData(values=[{"x": 0.15, "y": grade, "grade": str(grade)} for grade in range(2, _TOP, 2)]))
        .mark_text(align="left", baseline="bottom", fontSize=9, color="#7a7a7a")
        .encode(x=x, y=y, text="grade:N")
    )
    names = [
        alt.Chart(alt.InlineData(values=[{"x": at[0], "y": at[1], "name": spoke}]))
        .mark_text(align="center" if abs(at[0]) < 0.5 else "left" if at[0] > 0 else "right", fontSize=11)
        .encode(x=x, y=y, text="name:N")
        for _, at, spoke in ends
    ]
    base = alt.Chart(data()).encode(
        x=x,
        y=y,
        color=alt.Color("arm:N", title=None, scale=colours(arms), legend=alt.Legend(orient="bottom")),
        tooltip=[
            alt.Tooltip("arm:N"),
            alt.Tooltip("part:N", title="category"),
            alt.Tooltip("figure:Q", title="grade", format=".2f"),
            alt.Tooltip("difference:Q", format="+.2f"),
            alt.Tooltip("n:Q", title="questions"),
            alt.Tooltip("shown:N"),
        ],
    )
    lines = base.mark_line(strokeWidth=2.2).encode(
        order="order:Q", strokeDash=alt.StrokeDash("arm:N", scale=dashes(arms), legend=None)
    )
    chart = alt.layer(grid, rods, marks, lines, base.mark_point(filled=True, size=45, opacity=1), *names).properties(
        height=_RADAR
    )
    reading = (
        "Each spoke is a category of questions, 10 is the rim; a line is an arm's mean grade (the paper's Figure 4). Categories hold few "
        "questions: what is shown after correction stands below, the rest of the shape may be chance."
    )
    shown = [f"{row['arm']} {row['shown']} on {row['part']}" for row in rows if row["shown"] in _SURE]
    finding = f"Shown: {'; '.join(shown)}." if shown else f"No difference shown in any of {len(spokes)} categories."
    columns = (
        ("part", "category", text),
        ("arm", "arm", text),
        ("figure", "grade", _plain),
        ("difference", "difference", _signed),
        ("difference_low", "from", _signed),
        ("difference_high", "to", _signed),
        ("n", "questions", whole),
        ("shown", "shown", text),
    )
    title = "Grades by category" + (f": {short_target(target)}" if target else "")
    drawn = figure(name, title, reading, finding, chart, rows, columns, told)
    # of a fixed width, or it would be no circle
    return replace(drawn, spec={**(drawn.spec or {}), "width": round(_RADAR * 1.55 / 1.2)})


def _on(place: int, of: int, grade: float) -> tuple[float, float]:
    """Where a grade stands on a spoke, the first one upwards, then clockwise."""
    turn = 2 * math.pi * place / of
    return round(grade * math.sin(turn), 4), round(grade * math.cos(turn), 4)


def _table(name: str, title: str, reading: str, finding: str, rows: Sequence[Row], columns: Sequence[Column]) -> Figure:
    cells = tuple(tuple(write(row[key]) for key, _, write in columns) for row in rows)
    numeric = tuple(write not in (text, short_target) for _, _, write in columns)
    return Figure(name, title, reading, finding, None, tuple(title for _, title, _ in columns), numeric, cells)


def _said(row: Mapping[str, object]) -> str:
    measure = str(row["measure"])
    return WORDS.get(measure) or f"{row['part']}, {measure}"


def _place(measure: str) -> tuple[int, str]:
    return (list(WORDS).index(measure), "") if measure in WORDS else (len(WORDS), measure)


def _capital(said: str) -> str:
    return said[:1].upper() + said[1:]


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3g}"


def _signed_share(value: float | None) -> str:
    return "" if value is None else f"{value:+.0%}"


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
