"""Which pairs of agents win: their probabilities over the shards, the leaderboard, and the pairs by task domain."""

from collections import Counter
from collections.abc import Sequence

from star_pipeline.core.publishing.ranking import LEAST, Ranking, Standing, listed, order
from star_pipeline.figures.base import (
    TOLD_APART,
    Figure,
    Row,
    colours,
    counting,
    dashes,
    data,
    figure,
    intervals,
    number,
    share,
    text,
    whole,
)

_ESTIMATES = {"pi": ("mean_pi", "mean π"), "win": ("win_rate", "win rate")}


def _order(rows: Sequence[Row], value: str) -> Ranking | None:
    """All pairs by ``value``, a key of _ESTIMATES; Wilson's interval holds for few values too."""
    key, _ = _ESTIMATES[value]
    return order(
        [
            Standing(
                row["pair_id"],
                row[key],
                row[f"{key}_low"],
                row[f"{key}_high"],
                value == "win" or row["candidates"] - row["failed"] >= LEAST,
            )
            for row in rows
            if row[key] is not None
        ]
    )


def orders(board: Sequence[Row]) -> str:
    """Why the pairs stand in another order by each measure, and who is highest by which. ``board``: the query pair_leaderboard."""
    highest = []
    for value, (_, what) in _ESTIMATES.items():
        if found := _order(board, value):
            beside = "" if found.clear else f", not told apart from {listed(found.rivals, 2)}"
            highest.append(f"{what}: {found.first.pair_id}{beside}")
    drawn = [row for row in board if row["probability"] is not None]
    if not highest or not drawn:
        return ""
    top = max(drawn, key=lambda row: row["probability"])
    return (
        "Three measures, three orders. Mean π is what a candidate of the pair is worth to the target model, gap and verdict together, "
        "with the seeds' own responses and the reference among the pairs; the win rate is the verdict alone; the probability, "
        "of sampled pairs only, is that of being drawn first. By Eq. 8 it adds up the π of all draws, so that a pair rises by being drawn "
        "often as well as by being good; by Thompson sampling it is the chance that the pair is the best, as far as its draws tell. "
        f"Highest here by {'; by '.join(highest)}; by probability: {top['pair_id']}."
    )


def probabilities(rows: Sequence[Row], pairs: Sequence[str], told: str = "") -> Figure:
    """The pair probabilities over the shards (the paper's Figure 5). ``rows``: place, shard, pair_id, probability.

    ``told``: what the intervals of the pairs' mean π tell of them."""
    title = "Probability of each pair, shard by shard"
    reading = (
        "Each line is the chance with which a pair is the first that a seed draws, after a shard (the paper's Figure 5). By Eq. 8 a line "
        "that rises belongs to a pair whose candidates earned more π than the others', each draw counted: it was drawn more often, or its "
        "candidates were better. By Thompson sampling it is the chance that the pair is the best, as far as its draws tell, and says "
        "nothing of the second best, which is drawn nearly as often. All lines begin where the first configuration put them."
    )
    if not rows:
        return Figure("probabilities", title, reading, "No shard is finished yet, so that no probability has moved.")
    import altair as alt

    first, last = min(row["place"] for row in rows), max(row["place"] for row in rows)
    ends: dict[str, list[Row]] = {}
    for row in rows:
        ends.setdefault(row["pair_id"], []).append(row)
    moved = sorted(
        (
            {
                "pair_id": pair,
                "first": of[0]["probability"],
                "last": of[-1]["probability"],
                "change": of[-1]["probability"] - of[0]["probability"],
            }
            for pair, of in ends.items()
        ),
        key=lambda row: -row["last"],
    )
    best, worst = moved[0], moved[-1]
    finding = (
        f"After {last:,} shards {best['pair_id']} has the highest probability, {share(best['last'])} (at first "
        f"{share(best['first'])}), {worst['pair_id']} the lowest, {share(worst['last'])} (at first {share(worst['first'])}). {told}"
    ).rstrip()
    pick = alt.selection_point(fields=["pair_id"], bind="legend")
    drawn = [pair for pair in pairs if pair in ends]
    # the pairs past these are all of one grey
    several = len(drawn) > TOLD_APART
    legend = alt.Legend(symbolType="stroke", symbolSize=300, values=drawn[:TOLD_APART])
    named = f"pair (the first {TOLD_APART} of {len(drawn)}, the others are grey)" if several else "pair"
    chart = (
        alt.Chart(data())
        .mark_line(point=last <= 30)
        .encode(
            x=alt.X(
                "place:Q",
                title="shards done",
                axis=counting(first, last),
                scale=alt.Scale(domain=[first, last], nice=False),
            ),
            y=alt.Y("probability:Q", title="probability", axis=alt.Axis(format="%"), scale=alt.Scale(zero=True)),
            color=alt.Color("pair_id:N", title=named, scale=colours(drawn), legend=legend),
            strokeDash=alt.StrokeDash("pair_id:N", title=named, scale=dashes(drawn), legend=legend),
            opacity=alt.condition(pick, alt.value(1), alt.value(0.12)),
            tooltip=[
                alt.Tooltip("pair_id:N", title="pair"),
                alt.Tooltip("shard:N"),
                alt.Tooltip("probability:Q", format=".2%"),
            ],
        )
        .add_params(pick)
        .properties(height=320)
    )
    columns = (
        ("pair_id", "pair", text),
        ("first", "at the start", share),
        ("last", f"after {last:,} shards", share),
        ("change", "change", share),
    )
    return figure("probabilities", title, reading, finding, chart, moved, columns, rows)


def leaderboard(rows: Sequence[Row], value: str) -> Figure:
    """The pairs by mean π, or by win rate (``value``: ``pi`` or ``win``), with 95% confidence intervals."""
    by_pi = value == "pi"
    centre, what = _ESTIMATES[value]
    name, title = f"leaderboard-{value}", f"Pairs by {what}"
    reading = (
        "The dot is the mean of π over the pair's candidates, the bar its 95% confidence interval. Where two bars overlap, the "
        "lake does not tell which pair is better. π is 0 where the gap is not positive; the pair named seed is the seeds' own responses."
        if by_pi
        else "The dot is how often the judge found the pair's candidate better than the reference, the bar Wilson's 95% interval. "
        "The reference itself is not judged. A pair above 50% beats the reference more often than not."
    )
    known = sorted((row for row in rows if row[centre] is not None), key=lambda row: (-row[centre], row["pair_id"]))
    if not known:
        return Figure(name, title, reading, "No candidate has been judged yet.")
    best = known[0]
    low, high = best[f"{centre}_low"], best[f"{centre}_high"]
    write = number if by_pi else share
    between = f" ({write(low)} to {write(high)})" if low is not None else ""
    found = _order(rows, value)
    if found is None:
        finding = f"{best['pair_id']} alone has a {what}: {write(best[centre])}{between}."
    elif found.clear:
        finding = f"{best['pair_id']} is first with {write(best[centre])}{between}; no other pair's interval reaches into its own."
    else:
        finding = (
            f"No pair is clearly first: {best['pair_id']} has {write(best[centre])}{between}, which the intervals do not tell from "
            f"{listed(found.rivals)}."
        )
    chart = intervals(
        known,
        "pair_id",
        (centre, f"{centre}_low", f"{centre}_high"),
        what,
        ".2f" if by_pi else "%",
        None if by_pi else 0.5,
    )
    columns = (
        ("pair_id", "pair", text),
        ("candidates", "candidates", whole),
        ("failed", "failed", whole),
        ("judged", "judged", whole),
        ("better", "better", whole),
        ("win_rate", "win rate", share),
        ("win_rate_low", "from", share),
        ("win_rate_high", "to", share),
        ("mean_pi", "mean π", number),
        ("mean_pi_low", "from", number),
        ("mean_pi_high", "to", number),
        ("selected", "selected", whole),
        ("probability", "probability", share),
    )
    return figure(name, title, reading, finding, chart, known, columns)


def domains(rows: Sequence[Row]) -> Figure:
    """Mean π by pair and task domain. ``rows``: those of the query pair_domains."""
    title = "Pairs by task domain"
    reading = (
        "Each cell is a pair's mean π on the seeds of one task domain (a cluster of instructions, named by its typical words); the "
        "stronger the colour, the better. Pale cells have fewer than 20 candidates with a π, too few to say anything."
    )
    known = [row for row in rows if row["mean_pi"] is not None]
    if not known:
        return Figure("domains", title, reading, "There are no task domains yet: no seed has a selected row.")
    import altair as alt

    names = list(dict.fromkeys(row["domain_name"] for row in known))
    first = [row for row in known if row["place"] == 1]
    ahead = Counter(row["pair_id"] for row in first if row["ahead"])
    best = sorted(ahead.items(), key=lambda item: (-item[1], item[0]))
    finding = f"{len(names):,} task domains; {len(first):,} of them have a pair with enough candidates. " + (
        f"Clearly ahead of all others is {listed([f'{pair} in {count:,}' for pair, count in best], 4)}."
        if best
        else "In none of them is a pair clearly ahead of all others."
    )
    chart = (
        alt.Chart(data())
        .mark_rect()
        .encode(
            x=alt.X(
                "pair_id:N", title=None, axis=alt.Axis(labelAngle=-40, orient="top", labelLimit=160, labelOverlap=False)
            ),
            y=alt.Y("domain_name:N", title=None, sort=names),
            color=alt.Color("mean_pi:Q", title="mean π", legend=alt.Legend(gradientLength=160)),
            opacity=alt.condition("datum.too_few", alt.value(0.3), alt.value(1)),
            tooltip=[
                alt.Tooltip("domain_name:N", title="domain"),
                alt.Tooltip("pair_id:N", title="pair"),
                alt.Tooltip("candidates:Q", format=","),
                alt.Tooltip("mean_pi:Q", title="mean π", format=".3f"),
                alt.Tooltip("win_rate:Q", title="win rate", format=".1%"),
                alt.Tooltip("selected:Q", format=","),
            ],
        )
        # room for the last pair's name, which leans out of the plot
        .properties(height=24 * len(names), padding={"left": 5, "top": 5, "right": 75, "bottom": 5})
    )
    columns = (
        ("domain_name", "domain", text),
        ("pair_id", "pair", text),
        ("candidates", "candidates", whole),
        ("mean_pi", "mean π", number),
        ("mean_pi_low", "from", number),
        ("mean_pi_high", "to", number),
        ("win_rate", "win rate", share),
        ("selected", "selected", whole),
    )
    return figure("domains", title, reading, finding, chart, known, columns)
