"""From candidates to the final data set: the funnel, what failed, what was left out, and what is nearly the same."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from star_pipeline.figures.base import Figure, Row, counting, data, figure, share, short, stacked, text, whole

if TYPE_CHECKING:
    import altair as alt

_SELECTIONS = {"best": "#4575b4", "fallback_base": "#bdbdbd", "fallback_seed": "#e0c068"}


def funnel(rows: Sequence[Row]) -> Figure:
    """How the final data set came to be. ``rows``: step, rows, in order."""
    title = "From candidates to the final data set"
    reading = (
        "Each bar is what is left after a step. Only candidates with a positive gap are worth judging; of those with a positive π the "
        "best of each seed is selected (Eq. 1). A seed without one falls back to the reference or to its own answer, so that the last bar "
        "can be longer than the one above it."
    )
    if not rows or not rows[0]["rows"]:
        return Figure("funnel", title, reading, "No candidate has been asked for yet.")
    asked, final = rows[0]["rows"], rows[-1]["rows"]
    finding = f"{asked:,} candidates were asked for; {final:,} rows are in the final data set ({share(final / asked)})."
    told = [{**row, "of": row["rows"] / asked} for row in rows]
    columns = (("step", "step", text), ("rows", "rows", whole), ("of", "of those asked for", share))
    return figure("funnel", title, reading, finding, _bars(rows, "step", "rows"), told, columns)


def by_domain(rows: Sequence[Row]) -> Figure:
    """Selected rows by task domain. ``rows``: domain, domain_name, selection, rows; the largest domain first."""
    title = "Rows by task domain"
    reading = (
        "A bar is a cluster of instructions, named by its typical words. best: a candidate better than the reference; fallback_base: the "
        "reference, since no other candidate earned anything; fallback_seed: the seed itself, since the reference failed too."
    )
    if not rows:
        return Figure("domain-rows", title, reading, "There are no task domains yet: no seed has a selected row.")
    import altair as alt

    told = [{**row, "label": f"{row['domain']}: {row['domain_name']}"} for row in rows]
    order = list(dict.fromkeys(row["label"] for row in told))
    totals = {name: sum(row["rows"] for row in told if row["label"] == name) for name in order}
    finding = (
        f"{sum(totals.values()):,} rows in {len(order):,} domains; the largest is {order[0]} ({totals[order[0]]:,})."
    )
    tooltip = [alt.Tooltip("label:N", title="domain"), alt.Tooltip("selection:N"), alt.Tooltip("rows:Q", format=",")]
    axis = counting(0, max(totals.values()))
    chart = stacked(told, "label", "selection", ("rows", "rows"), _SELECTIONS, order, axis, tooltip)
    columns = (("label", "domain", text), ("selection", "selection", text), ("rows", "rows", whole))
    return figure("domain-rows", title, reading, finding, chart, told, columns)


def failures(rows: Sequence[Row]) -> Figure:
    """What failed, by stage and reason. ``rows``: stage, kind, times, pairs, example."""
    title = "What failed"
    reading = (
        "Candidates that could not be made, scored or judged, by reason. A failed candidate stays in the tables with its reason; it is "
        "never selected and earns its pair nothing. Ask for all of them with: star-pipeline query failures"
    )
    if not rows:
        return Figure("failures", title, reading, "Nothing failed.")
    named = [{**row, "what": f"{row['stage']}: {row['kind']}"} for row in rows]
    total = sum(row["times"] for row in rows)
    finding = f"{total:,} in all, most of them {named[0]['what']} ({named[0]['times']:,})."
    columns = (
        ("stage", "stage", text),
        ("kind", "reason", text),
        ("times", "times", whole),
        ("pairs", "pairs", whole),
        ("example", "example", short),
    )
    return figure("failures", title, reading, finding, _bars(named, "what", "times"), named, columns)


def left_out(rows: Sequence[Row]) -> Figure:
    """What the settings under ``dataset:`` kept out. ``rows``: reason, rows, example."""
    title = "What was left out on purpose"
    reading = (
        "Selected rows that the settings under dataset: kept out of the final data set, by the first reason that held."
    )
    if not rows:
        return Figure(
            "left-out", title, reading, "Nothing: every selected row of a live seed is in the final data set."
        )
    finding = f"{sum(row['rows'] for row in rows):,} rows, most of them for {rows[0]['reason']} ({rows[0]['rows']:,})."
    columns = (("reason", "reason", text), ("rows", "rows", whole), ("example", "example", short))
    return figure("left-out", title, reading, finding, _bars(rows, "reason", "rows"), rows, columns)


def similarity(rows: Sequence[Row]) -> Figure:
    """Rows by the cosine to their nearest neighbour. ``rows``: low, high, rows, near_duplicates."""
    title = "How alike the selected rows are"
    reading = (
        "Selected rows by the cosine of their instruction with the nearest other one. A hump on the right says that many instructions "
        "ask nearly the same. Near-duplicates are alike to dataset.near_duplicate_similarity and follow the same earlier turns; "
        "dataset.near_duplicates says how many of each group to keep."
    )
    if not rows:
        return Figure("similarity", title, reading, "Nothing to compare yet: the asset task_domains has not been made.")
    import altair as alt

    total, near = sum(row["rows"] for row in rows), sum(row["near_duplicates"] for row in rows)
    finding = f"{near:,} of {total:,} rows ({share(near / total)}) are near-duplicates of a row with a higher π."
    chart = (
        alt.Chart(data())
        .mark_bar()
        .encode(
            x=alt.X(
                "low:Q",
                bin="binned",
                title="cosine to the nearest other row",
                scale=alt.Scale(domain=[min(row["low"] for row in rows), 1]),
            ),
            x2="high:Q",
            y=alt.Y("rows:Q", title="rows"),
            tooltip=[
                alt.Tooltip("low:Q", title="from", format=".2f"),
                alt.Tooltip("rows:Q", format=","),
                alt.Tooltip("near_duplicates:Q", title="near-duplicates", format=","),
            ],
        )
        .properties(height=220)
    )
    columns = (
        ("low", "cosine from", lambda v: f"{v:.2f}"),
        ("high", "to", lambda v: f"{v:.2f}"),
        ("rows", "rows", whole),
        ("near_duplicates", "near-duplicates", whole),
    )
    return figure("similarity", title, reading, finding, chart, rows, columns)


def _bars(rows: Sequence[Row], label: str, value: str) -> "alt.LayerChart | alt.FacetChart":
    import altair as alt

    base = alt.Chart(data()).encode(
        # room for the number at the end of the longest bar
        x=alt.X(
            f"{value}:Q",
            title=value,
            axis=alt.Axis(format="~s"),
            scale=alt.Scale(domain=[0, 1.2 * max(row[value] for row in rows)]),
        ),
        y=alt.Y(f"{label}:N", title=None, sort=[row[label] for row in rows], axis=alt.Axis(labelLimit=220)),
        tooltip=[alt.Tooltip(f"{label}:N", title=" "), alt.Tooltip(f"{value}:Q", format=",")],
    )
    return alt.layer(
        base.mark_bar(),
        base.mark_text(align="left", dx=4).encode(text=alt.Text(f"{value}:Q", format=",")),
    ).properties(height=28 * len(rows))
