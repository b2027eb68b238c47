"""How difficult the candidates are for the two models: the gap by pair, and IFD small against large."""

from collections.abc import Sequence

from star_pipeline.core.publishing.ranking import LEAST, Standing, listed, order
from star_pipeline.core.rates import rate
from star_pipeline.figures.base import Figure, Row, beside, data, figure, number, share, text, whole


def gaps(rows: Sequence[Row], counted: bool = False) -> Figure:
    """Quantiles of the gap by pair, with the counts beside them if ``counted``. ``rows``: those of the query gap_by_pair."""
    title = "Gap by pair"
    reading = (
        "The gap is IFD under the small model minus IFD under the large one: how much the small model can still learn. The line spans "
        "90% of a pair's candidates, the box the middle half, the tick is the median. Left of the dashed zero π is 0. With "
        "scoring.calibration it is the difference of the ranks in the shard."
    )
    if not rows:
        return Figure("gaps", title, reading, "No candidate has been scored yet.")
    import altair as alt

    best, worst = rows[0], rows[-1]
    finding = (
        f"{best['pair_id']} has the largest median gap ({number(best['median_gap'])}; {rate(best['positive'], best['scored'])} "
        f"positive), {worst['pair_id']} the smallest ({number(worst['median_gap'])}; {rate(worst['positive'], worst['scored'])} positive)."
    )
    by_mean = order(
        [
            Standing(row["pair_id"], row["mean_gap"], row["mean_gap_low"], row["mean_gap_high"], row["scored"] >= LEAST)
            for row in rows
            if row["mean_gap"] is not None
        ]
    )
    if by_mean and not by_mean.clear:
        finding += (
            f" By the mean gap the 95% intervals do not tell {by_mean.first.pair_id} from {listed(by_mean.rivals)}."
        )
    y = alt.Y("pair_id:N", sort=[row["pair_id"] for row in rows], title=None)
    tooltip = [
        alt.Tooltip("pair_id:N", title="pair"),
        alt.Tooltip("scored:Q", format=","),
        *(alt.Tooltip(f"{key}:Q", format=".3f") for key in ("p05", "p25", "median_gap", "p75", "p95")),
        alt.Tooltip("positive_rate:Q", title="positive", format=".1%"),
    ]
    base = alt.Chart(data()).encode(y=y, tooltip=tooltip)
    counts = {row["pair_id"]: f"{rate(row['positive'], row['scored'])} above 0" for row in rows}
    chart = alt.layer(
        alt.Chart(alt.InlineData(values=[{"at": 0}])).mark_rule(strokeDash=[4, 4]).encode(x="at:Q"),
        base.mark_bar(size=2).encode(x=alt.X("p05:Q", title="gap"), x2="p95:Q"),
        base.mark_bar(size=12, opacity=0.55).encode(x="p25:Q", x2="p75:Q"),
        base.mark_tick(size=16, thickness=3, color="#f58518").encode(x="median_gap:Q"),
        *([beside(counts, list(counts))] if counted else []),
    ).properties(height=26 * len(rows))
    columns = (
        ("pair_id", "pair", text),
        ("scored", "scored", whole),
        ("p05", "5%", number),
        ("p25", "25%", number),
        ("median_gap", "median", number),
        ("p75", "75%", number),
        ("p95", "95%", number),
        ("positive_rate", "positive", share),
    )
    return figure("gaps", title, reading, finding, chart, rows, columns)


def ifd(rows: Sequence[Row]) -> Figure:
    """Candidates by IFD under the small and the large model, in bins of ``small_low``…``large_high``."""
    title = "IFD small against large"
    reading = (
        "Each square counts the candidates whose IFD under the small model (across) and the large one (up) fall there. Below the dashed "
        "diagonal the gap is positive: the large model makes better use of the instruction. An IFD above 1 says that the instruction "
        "hinders. The last squares hold all that lies beyond them."
    )
    if not rows:
        return Figure("ifd", title, reading, "No candidate has been scored yet.")
    import altair as alt

    total = sum(row["candidates"] for row in rows)
    low, high = min(row["small_low"] for row in rows), max(row["small_high"] for row in rows)
    low, high = min(low, *(row["large_low"] for row in rows)), max(high, *(row["large_high"] for row in rows))
    fullest = max(rows, key=lambda row: row["candidates"])
    below = sum(row["candidates"] for row in rows if row["large_high"] <= row["small_low"])
    on = sum(row["candidates"] for row in rows if row["large_low"] == row["small_low"])
    finding = (
        f"{rate(below, total)} candidates lie below the diagonal, {rate(on, total)} in the squares on it. The fullest "
        f"square begins at IFD {number(fullest['small_low'])} (small) and {number(fullest['large_low'])} (large)."
    )
    scale = alt.Scale(domain=[low, high], nice=False)
    chart = alt.layer(
        alt.Chart(data())
        .mark_rect()
        .encode(
            x=alt.X("small_low:Q", title="IFD, small model", scale=scale),
            x2="small_high:Q",
            y=alt.Y("large_low:Q", title="IFD, large model", scale=scale),
            y2="large_high:Q",
            color=alt.Color("candidates:Q", scale=alt.Scale(type="sqrt"), legend=alt.Legend(gradientLength=160)),
            tooltip=[
                alt.Tooltip("small_low:Q", title="small from", format=".3f"),
                alt.Tooltip("large_low:Q", title="large from", format=".3f"),
                alt.Tooltip("candidates:Q", format=","),
            ],
        ),
        alt.Chart(alt.InlineData(values=[{"at": low}, {"at": high}]))
        .mark_line(strokeDash=[4, 4], color="#8a8a8a")
        .encode(x="at:Q", y="at:Q"),
    ).properties(height=360)
    columns = (
        ("small_low", "small from", number),
        ("small_high", "to", number),
        ("large_low", "large from", number),
        ("large_high", "to", number),
        ("candidates", "candidates", whole),
    )
    return figure("ifd", title, reading, finding, chart, sorted(rows, key=lambda row: -row["candidates"]), columns)
