"""What it cost: by agent and stage, by selected row, and as the lake grew. Where nothing has a price, tokens are shown."""

from collections.abc import Sequence

from star_pipeline.core.aliases import JsonObject
from star_pipeline.figures.base import Figure, Row, data, figure, stacked, text, usd, whole

_STAGES = {"rewrite": "#72b7b2", "respond": "#4c78a8", "judge": "#f58518"}
_OF_A_STUDY = {"answer": "#54a24b", "grade": "#eeca3b"}
"""Stages that only a study asks for."""
_PARTS = {"USD": "#4c78a8", "sent": "#72b7b2", "received": "#4c78a8"}
_FREE = " No agent has a price, so tokens are shown."


def by_agent(rows: Sequence[Row], paid: bool = False) -> Figure:
    """Cost by agent and stage of what is in the tables, or of all that was ``paid``.

    ``rows``: agent, stage, requests, prompt_tokens, completion_tokens, cost_usd.
    """
    title = "Cost by agent and stage"
    reading = (
        "What each agent's work that is in the tables cost, for rewriting, responding and judging. What several rows share is booked "
        "once. All that was paid, for tables made anew since too: star-pipeline query paid_per_agent"
    )
    if paid:
        reading = (
            "What was paid for each agent, for rewriting, responding and judging, by the journal; also for tables made anew "
            "since. What that which is in the tables cost: star-pipeline query costs"
        )
    if not rows:
        return Figure("cost-agents", title, reading, "No LLM has been called.")
    import altair as alt

    priced = any(row["cost_usd"] for row in rows)
    told = [
        {**row, "value": row["cost_usd"] if priced else row["prompt_tokens"] + row["completion_tokens"]} for row in rows
    ]
    unit, write, form = ("USD", usd, ",.6~r") if priced else ("tokens", whole, "~s")
    total = sum(row["value"] for row in told)
    totals: dict[str, float] = {}
    for row in told:
        totals[row["agent"]] = totals.get(row["agent"], 0) + row["value"]
    top = max(totals, key=lambda name: totals[name])
    finding = (
        f"{write(total)} {unit} {'paid in all' if paid else 'for what is in the tables'}, the most of it for {top} ({write(totals[top])})."
        + ("" if priced else _FREE)
    )
    tooltip = [
        alt.Tooltip("agent:N"),
        alt.Tooltip("stage:N"),
        alt.Tooltip("requests:Q", format=","),
        alt.Tooltip("prompt_tokens:Q", title="tokens sent", format=","),
        alt.Tooltip("completion_tokens:Q", title="tokens received", format=","),
        alt.Tooltip("cost_usd:Q", title="USD", format=",.4f"),
    ]
    order = sorted(totals, key=lambda name: (-totals[name], name))
    stages = _STAGES | {
        name: colour for name, colour in _OF_A_STUDY.items() if any(row["stage"] == name for row in told)
    }
    chart = stacked(told, "agent", "stage", ("value", unit), stages, order, alt.Axis(format=form), tooltip)
    columns = (
        ("agent", "agent", text),
        ("stage", "stage", text),
        ("requests", "requests", whole),
        ("prompt_tokens", "tokens sent", whole),
        ("completion_tokens", "tokens received", whole),
        ("cost_usd", "USD", usd),
    )
    return figure("cost-agents", title, reading, finding, chart, told, columns)


def by_pair(rows: Sequence[Row]) -> Figure:
    """What each pair's candidates cost. ``rows``: pair_id, candidates, prompt_tokens, completion_tokens, cost_usd."""
    title = "Cost by pair"
    reading = "What each pair's candidates cost, without their verdicts. What several candidates share is booked once."
    if not rows:
        return Figure("cost-pairs", title, reading, "There are no candidates.")
    import altair as alt

    priced = any(row["cost_usd"] for row in rows)
    unit, write, form = ("USD", usd, ",.6~r") if priced else ("tokens", whole, "~s")
    parts = {"USD": "cost_usd"} if priced else {"sent": "prompt_tokens", "received": "completion_tokens"}
    told = [{**row, "part": part, "value": row[key]} for row in rows for part, key in parts.items()]
    totals = {row["pair_id"]: sum(row[key] for key in parts.values()) for row in rows}
    order = sorted(totals, key=lambda name: (-totals[name], name))
    finding = (
        f"{write(sum(totals.values()))} {unit} in all, the most of it for {order[0]} ({write(totals[order[0]])})."
        + ("" if priced else _FREE)
    )
    tooltip = [
        alt.Tooltip("pair_id:N", title="pair"),
        alt.Tooltip("part:N"),
        alt.Tooltip("value:Q", title=unit, format=",.6~r"),
    ]
    chart = stacked(told, "pair_id", "part", ("value", unit), _PARTS, order, alt.Axis(format=form), tooltip)
    columns = (
        ("pair_id", "pair", text),
        ("candidates", "candidates", whole),
        ("prompt_tokens", "tokens sent", whole),
        ("completion_tokens", "tokens received", whole),
        ("cost_usd", "USD", usd),
    )
    return figure("cost-pairs", title, reading, finding, chart, rows, columns, told)


def by_row(rows: Sequence[Row]) -> Figure:
    """Cost of a selected row by pair. ``rows``: pair_id, selected_rows, cost_usd, tokens, usd_per_selected_row, tokens_per_selected_row."""
    title = "Cost of a selected row"
    reading = (
        "All that a pair's candidates and their verdicts cost, over the rows that it has in the final data set. A pair that is never "
        "selected has no bar: its cost is in the table."
    )
    priced = any(row["cost_usd"] for row in rows)
    key, unit, write, form = (
        ("usd_per_selected_row", "USD a row", usd, ",.6~r")
        if priced
        else ("tokens_per_selected_row", "tokens a row", whole, "~s")
    )
    known = sorted((row for row in rows if row[key] is not None), key=lambda row: row[key])
    if not known:
        return Figure("cost-rows", title, reading, "No pair that was paid for has a row in the final data set.")
    import altair as alt

    never = [row["pair_id"] for row in rows if not row["selected_rows"]]
    finding = (
        f"{known[0]['pair_id']} gives the cheapest rows ({write(known[0][key])} {unit}), {known[-1]['pair_id']} the dearest "
        f"({write(known[-1][key])})."
        + (f" Never selected: {', '.join(never[:8])}." if never else "")
        + ("" if priced else _FREE)
    )
    chart = (
        alt.Chart(data())
        .mark_bar()
        .encode(
            x=alt.X(f"{key}:Q", title=unit, axis=alt.Axis(format=form)),
            y=alt.Y("pair_id:N", title=None, sort=[row["pair_id"] for row in known]),
            tooltip=[
                alt.Tooltip("pair_id:N", title="pair"),
                alt.Tooltip("selected_rows:Q", format=","),
                alt.Tooltip(f"{key}:Q", title=unit, format=",.4f" if priced else ",.0f"),
            ],
        )
        .properties(height=24 * len(known))
    )
    columns = (
        ("pair_id", "pair", text),
        ("selected_rows", "selected rows", whole),
        ("cost_usd", "USD", usd),
        ("tokens", "tokens", whole),
        ("usd_per_selected_row", "USD a row", usd),
        ("tokens_per_selected_row", "tokens a row", whole),
    )
    return figure("cost-rows", title, reading, finding, chart, rows, columns, known)


def growth(rows: Sequence[Row]) -> Figure:
    """Cumulative cost over the seeds. ``rows``: shard, seeds, stage, requests, tokens, cost_usd, all cumulative, by shard and stage."""
    title = "Cost as the lake grew"
    reading = (
        "What all shards so far cost together, over the number of seeds in them. A straight edge: each seed costs the same; "
        "one that bends up: later seeds cost more."
    )
    if not rows:
        return Figure("growth", title, reading, "No LLM has been called.")
    import altair as alt

    priced = any(row["cost_usd"] for row in rows)
    unit, key, write, form = ("USD", "cost_usd", usd, ",.6~r") if priced else ("tokens", "tokens", whole, "~s")
    shards: dict[str, dict[str, float]] = {}
    for row in rows:
        found = shards.setdefault(row["shard"], {"seeds": row["seeds"], "requests": 0, "tokens": 0, "cost_usd": 0})
        for measure in ("requests", "tokens", "cost_usd"):
            found[measure] += row[measure]
    totals: list[JsonObject] = [{"shard": shard, **found} for shard, found in shards.items()]
    last, half = totals[-1], totals[(len(totals) - 1) // 2]
    finding = (
        f"{last['seeds']:,} seeds took {last['requests']:,.0f} requests and {write(last[key])} {unit}, "
        f"{write(last[key] / last['seeds'])} a seed"
        + (f" ({write(half[key] / half['seeds'])} over the first {half['seeds']:,})." if len(totals) > 1 else ".")
    )
    nth = max(1, -(-len(shards) // 300))
    kept = {shard for place, shard in enumerate(shards, start=1) if place % nth == 0 or place == len(shards)}
    names = [name for name in _STAGES if any(row["stage"] == name for row in rows)]
    plotted = [
        *({"seeds": 0, "stage": name, key: 0} for name in names),
        *({"seeds": row["seeds"], "stage": row["stage"], key: row[key]} for row in rows if row["shard"] in kept),
    ]
    chart = (
        alt.Chart(data())
        .mark_area(opacity=0.8)
        .encode(
            x=alt.X("seeds:Q", title="seeds", axis=alt.Axis(format="~s"), scale=alt.Scale(nice=False)),
            y=alt.Y(f"{key}:Q", title=unit, stack="zero", axis=alt.Axis(format=form)),
            color=alt.Color("stage:N", scale=alt.Scale(domain=names, range=[_STAGES[name] for name in names])),
            tooltip=[
                alt.Tooltip("stage:N"),
                alt.Tooltip("seeds:Q", format=","),
                alt.Tooltip(f"{key}:Q", title=unit, format=",.4f" if priced else ",.0f"),
            ],
        )
        .properties(height=240)
    )
    columns = (
        ("shard", "shard", text),
        ("seeds", "seeds so far", whole),
        ("requests", "requests", whole),
        ("tokens", "tokens", whole),
        ("cost_usd", "USD", usd),
    )
    return figure("growth", title, reading, finding, chart, totals, columns, plotted)
