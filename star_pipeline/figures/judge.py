"""Whether the judge can be trusted: verdicts, reversals, length, and its own model's answers."""

from collections.abc import Mapping, Sequence

from star_pipeline.core.rates import rate, wilson
from star_pipeline.figures.base import Figure, Row, beside, counting, figure, intervals, share, stacked, text, whole

# better and worse are told apart with any kind of colour blindness
_VERDICTS = {
    "better": "#2a78b8",
    "tie": "#a8a8a8",
    "inconsistent": "#f0b93a",
    "worse": "#c4451c",
    "skipped": "#d3dcea",
    "unparsed": "#6a3d8f",
    "failed": "#5c4033",
}
_SIDES = {"candidate": "the candidate", "reference": "the reference", "both": "both", "neither": "neither"}


def verdicts(rows: Sequence[Row], reversals: Mapping[str, tuple[int, int]] | None = None) -> Figure:
    """Verdicts by pair (Eq. 6). ``rows``: pair_id, verdict, rows.

    As shares, or, where ``reversals`` says (how often the judge reversed itself, of how many comparisons) for each pair, as counts
    with that beside them.
    """
    title = "Verdicts by pair"
    reading = (
        f"What the judge said of each pair's candidates beside the reference{', as shares' if reversals is None else ''}. Skipped: the gap "
        "is not positive, so that nobody was asked. Inconsistent: the judge reversed itself when the order was swapped; that counts as a "
        "tie (judge.on_reversal)."
    )
    if not rows:
        return Figure("verdicts", title, reading, "Nothing has been judged yet.")
    import altair as alt

    totals: dict[str, int] = {}
    for row in rows:
        totals[row["verdict"]] = totals.get(row["verdict"], 0) + row["rows"]
    finding = (
        ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(totals.items(), key=lambda item: -item[1])) + "."
    )
    made: dict[str, int] = {}
    for row in rows:
        made[row["pair_id"]] = made.get(row["pair_id"], 0) + row["rows"]
    wins = dict.fromkeys(made, 0.0) | {
        row["pair_id"]: row["rows"] / made[row["pair_id"]] for row in rows if row["verdict"] == "better"
    }
    order = sorted(wins, key=lambda pair: (-wins[pair], pair))
    tooltip = [
        alt.Tooltip("pair_id:N", title="pair"),
        alt.Tooltip("verdict:N"),
        alt.Tooltip("rows:Q", title="candidates", format=","),
    ]
    if reversals is None:
        value, axis = ("rows", "share of the pair's candidates"), alt.Axis(format="%")
        chart: alt.TopLevelMixin = stacked(
            rows, "pair_id", "verdict", value, _VERDICTS, order, axis, tooltip, "normalize"
        )
    else:
        value, axis = ("rows", "candidates"), counting(0, max(made.values()))
        bars = stacked(rows, "pair_id", "verdict", value, _VERDICTS, order, axis, tooltip)
        chart = alt.layer(bars, beside({pair: _reversed(*reversals[pair]) for pair in order}, order))
        reading += " Beside each bar: how many of its comparisons were reversed, with Wilson's 95% interval."
    columns = (("pair_id", "pair", text), ("verdict", "verdict", text), ("rows", "candidates", whole))
    return figure("verdicts", title, reading, finding, chart, rows, columns)


def _reversed(flipped: int, judged: int) -> str:
    if not judged:
        return "nothing compared"
    low, high = wilson(flipped, judged)
    return f"{flipped:,} of {judged:,} reversed ({low:.0%} to {high:.0%})"


def flips(rows: Sequence[Row]) -> Figure:
    """How often the judge reversed itself, by pair. ``rows``: those of the query judge_bias."""
    title = "Reversals by pair"
    reading = (
        "How often a win in one order was a loss in the other, with Wilson's 95% interval. A high rate says that the judge looks at the "
        "place of an answer more than at what it says; then π of these candidates means little, unless it was read from probabilities "
        "(judge.mode: logprobs), where the place cancels."
    )
    if not rows:
        return Figure("flips", title, reading, "Nothing has been judged yet.")
    judged, flipped = sum(row["judged"] for row in rows), sum(row["flipped"] for row in rows)
    first = sum(row["flips_towards_first"] for row in rows)
    finding = f"The judge reversed itself in {rate(flipped, judged)} comparisons" + (
        f"; {first:,} of them favoured the answer shown first." if flipped else "."
    )
    chart = intervals(rows, "pair_id", ("flip_rate", "flip_rate_low", "flip_rate_high"), "reversed", "%")
    columns = (
        ("pair_id", "pair", text),
        ("judged", "judged", whole),
        ("flipped", "reversed", whole),
        ("flip_rate", "rate", share),
        ("flip_rate_low", "from", share),
        ("flip_rate_high", "to", share),
        ("flips_towards_first", "towards the first", whole),
        ("flips_towards_second", "towards the second", whole),
    )
    return figure("flips", title, reading, finding, chart, rows, columns)


def length(rows: Sequence[Row]) -> Figure:
    """Wins by the length of the candidate's response.

    ``rows``: length_ratio, compared, won, win_rate and its interval; of all ratios, decided and longer_won.
    """
    title = "Does the longer answer win?"
    reading = (
        "How often the judge found the candidate better, by how long its response is: 2 is twice as many characters as the reference's. A "
        "judge that does not care about length gives a flat row of dots, unless longer answers are really better: read it with the pairs "
        "in mind."
    )
    if not rows:
        return Figure("length", title, reading, "Nothing has been judged yet.")
    decided, longer = rows[0]["decided"], rows[0]["longer_won"]
    finding = (
        f"The longer of the two responses won {rate(longer, decided)} comparisons that were decided."
        if decided
        else "No comparison of responses of different lengths was decided."
    )
    chart = intervals(rows, "length_ratio", ("win_rate", "win_rate_low", "win_rate_high"), "judged better", "%", 0.5)
    columns = (
        ("length_ratio", "ratio of lengths", text),
        ("compared", "compared", whole),
        ("won", "won", whole),
        ("win_rate", "win rate", share),
        ("win_rate_low", "from", share),
        ("win_rate_high", "to", share),
    )
    return figure("length", title, reading, finding, chart, rows, columns)


def self_preference(rows: Sequence[Row]) -> Figure:
    """Win rate by whose model wrote the two responses. ``rows``: those of the query self_preference."""
    title = "Does the judge prefer its own model?"
    reading = (
        "How often candidates won, by which of the two responses the judge's own model wrote. A judge that prefers itself gives more wins "
        "where it wrote the candidate than where it wrote neither, and fewer where it wrote the reference; its model may also be better."
    )
    if not any(row["own"] != "neither" for row in rows):
        said = "No response was written by the judge's own model, so that it cannot prefer itself."
        return Figure("self-preference", title, reading, said if rows else "Nothing has been judged yet.")
    several = len({row["judge_agent"] for row in rows}) > 1
    named = [
        {**row, "wrote": (f"{row['judge_agent']} wrote " if several else "wrote ") + _SIDES[row["own"]]} for row in rows
    ]
    finding = "; ".join(f"{row['wrote']}: {rate(row['won'], row['compared'])} won" for row in named)
    finding = f"Candidates that won, where its model {finding}."
    chart = intervals(named, "wrote", ("win_rate", "win_rate_low", "win_rate_high"), "judged better", "%", 0.5)
    columns = (
        ("judge_agent", "judge", text),
        ("judge_model", "its model", text),
        ("own", "it wrote", text),
        ("compared", "compared", whole),
        ("won", "won", whole),
        ("win_rate", "win rate", share),
        ("win_rate_low", "from", share),
        ("win_rate_high", "to", share),
    )
    return figure("self-preference", title, reading, finding, chart, named, columns)
