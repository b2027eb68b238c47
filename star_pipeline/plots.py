"""Plots for the UI, where people would rather look than read: each is a Markdown image that stands in an asset's metadata."""

import base64
import io
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg

from star_pipeline.core.records import AgentSpend, Candidate, IfdScore, JudgeVerdict, PairProbability

_AXES_INCHES = 4.8
# the room that a character of the tick labels (10 points) and of the legend (8 points) takes, with some to spare
_LABEL_INCHES, _LEGEND_INCHES = 0.09, 0.072
_VERDICT_COLOURS = {
    "better": "#1a9850",
    "tie": "#bdbdbd",
    "inconsistent": "#fdae61",
    "worse": "#d73027",
    "skipped": "#e8e8f4",
    "unparsed": "#762a83",
    "failed": "#000000",
}
_SELECTION_COLOURS = {"best": "#4575b4", "fallback_base": "#bdbdbd", "fallback_seed": "#e0c068"}


def probabilities_plot(snapshots: Sequence[Sequence[PairProbability]]) -> dg.MarkdownMetadataValue:
    """The pair probabilities over the shards, a line a pair (the paper's Figure 5); snapshots in shard order."""
    first: dict[str, list[float | None]] = (
        {row.pair_id: [row.probability_before] for row in snapshots[0]} if snapshots else {}
    )
    lines = dict(first)
    for place, snapshot in enumerate(snapshots, start=1):
        found = {row.pair_id: row.probability for row in snapshot}
        for pair_id in found.keys() - lines.keys():
            lines[pair_id] = [None] * place
        for pair_id, values in lines.items():
            values.append(found.get(pair_id))

    def draw(axes: Any) -> None:
        best_first = sorted(lines.items(), key=lambda line: -(line[1][-1] or 0))
        for pair_id, values in best_first:
            axes.plot(
                range(len(values)), [float("nan") if v is None else v for v in values], label=pair_id, linewidth=1.6
            )
        axes.set(xlabel="shards done", ylabel="probability", title="Agent-pair probabilities (Eq. 8)")
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, frameon=False)

    return _image(draw, "pair probabilities over the shards", legend=list(lines))


def ifd_plot(scores: Sequence[IfdScore], pair_of: Mapping[str, str]) -> dg.MarkdownMetadataValue:
    """IFD under the small against the large model, a dot a candidate: below the diagonal the gap is positive."""
    points: dict[str, list[tuple[float, float]]] = {}
    for score in scores:
        if score.ifd_small is not None and score.ifd_large is not None:
            points.setdefault(pair_of[score.candidate_id], []).append((score.ifd_small, score.ifd_large))

    def draw(axes: Any) -> None:
        for pair_id, dots in sorted(points.items()):
            axes.scatter(*zip(*dots, strict=True), s=10, alpha=0.6, label=pair_id)
        both = [value for dots in points.values() for dot in dots for value in dot]
        if both:
            ends = [min(both), max(both)]
            axes.plot(ends, ends, color="grey", linewidth=0.8, linestyle="--")
        axes.set(
            xlabel="IFD small (target)",
            ylabel="IFD large",
            title="Below the line: the target still has to learn it (gap > 0)",
        )
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, frameon=False)

    return _image(draw, "IFD under the small against the large model", legend=list(points))


def gap_plot(scores: Sequence[IfdScore], pair_of: Mapping[str, str]) -> dg.MarkdownMetadataValue:
    """The gaps of each pair's candidates: box from quartile to quartile with the median, whiskers from the 5th to the 95th percentile."""
    gaps: dict[str, list[float]] = {}
    for score in scores:
        if score.gap is not None:
            gaps.setdefault(pair_of[score.candidate_id], []).append(score.gap)
    by_median = sorted(gaps.items(), key=lambda found: (statistics.median(found[1]), found[0]))
    names = [f"{pair_id}  ({len(values)})" for pair_id, values in by_median]

    def draw(axes: Any) -> None:
        if names:
            axes.boxplot([values for _, values in by_median], orientation="horizontal", whis=(5, 95), sym="")
            axes.set_yticks(range(1, len(names) + 1), names)
        axes.axvline(0, color="grey", linewidth=0.8, linestyle="--")
        axes.set(xlabel="gap = IFD small − IFD large", title="Gap by pair (candidates): right of the line it can earn")

    return _image(draw, "gap by pair", 1.2 + 0.28 * max(len(names), 1), legend=(), labels=names)


def verdicts_plot(verdicts: Sequence[JudgeVerdict], pair_of: Mapping[str, str]) -> dg.MarkdownMetadataValue:
    """Verdicts by pair, with the share of comparisons that the judge reversed when the order was swapped."""
    by_pair: dict[str, dict[str, int]] = {}
    for row in verdicts:
        found = by_pair.setdefault(pair_of[row.candidate_id], {})
        found[row.verdict] = found.get(row.verdict, 0) + 1
    labels = {pair_id: f"{pair_id}  ({_flip_share(found)} flipped)" for pair_id, found in by_pair.items()}
    return _stacked(
        {labels[pair_id]: found for pair_id, found in sorted(by_pair.items(), reverse=True)},
        _VERDICT_COLOURS,
        "candidates",
        "Verdicts by pair (Eq. 6)",
    )


def domains_plot(names: Mapping[int, str], rows: Sequence[tuple[int, str]]) -> dg.MarkdownMetadataValue:
    """Rows by domain, largest on top, told by how they were selected; ``rows`` are (domain, selection)."""
    # the font that comes with matplotlib has no glyphs for the scripts beyond
    labels = {
        domain: f"{domain}: {name}" if max(name) < "\u2e80" else f"domain {domain}" for domain, name in names.items()
    }
    bars: dict[str, dict[str, float]] = {labels[domain]: {} for domain in sorted(names, reverse=True)}
    for domain, selection in rows:
        found = bars[labels[domain]]
        found[selection] = found.get(selection, 0) + 1
    return _stacked(bars, _SELECTION_COLOURS, "rows", "Rows by task domain")


def cost_plot(candidates: Sequence[Candidate]) -> dg.MarkdownMetadataValue:
    """What each pair cost: USD where there are prices, else tokens."""
    priced = any(row.cost_usd for row in candidates)
    by_pair: dict[str, dict[str, float]] = {}
    for row in candidates:
        found = by_pair.setdefault(row.pair_id, {})
        parts = {"USD": row.cost_usd} if priced else {"sent": row.prompt_tokens, "received": row.completion_tokens}
        for name, value in parts.items():
            found[name] = found.get(name, 0) + value
    unit = "USD" if priced else "tokens"
    colours = {"USD": "#4575b4", "sent": "#abd9e9", "received": "#4575b4"}
    return _stacked(dict(sorted(by_pair.items(), reverse=True)), colours, unit, f"Cost by pair, {unit}")


def agent_cost_plot(spend: Sequence[AgentSpend]) -> dg.MarkdownMetadataValue:
    """What was paid for each agent in all, by stage: USD where there are prices, else tokens."""
    priced = any(row.cost_usd for row in spend)
    by_agent: dict[str, dict[str, float]] = {}
    for row in spend:
        found = by_agent.setdefault(row.agent, {})
        paid = row.cost_usd if priced else row.prompt_tokens + row.completion_tokens
        found[row.stage] = found.get(row.stage, 0) + paid
    unit = "USD" if priced else "tokens"
    colours = {"rewrite": "#abd9e9", "respond": "#4575b4", "judge": "#fdae61"}
    return _stacked(dict(sorted(by_agent.items(), reverse=True)), colours, unit, f"Cost by agent, {unit}")


def _flip_share(found: Mapping[str, int]) -> str:
    asked = sum(count for verdict, count in found.items() if verdict in ("better", "worse", "tie", "inconsistent"))
    return f"{found.get('inconsistent', 0) / asked:.0%}" if asked else "none"


def _stacked(
    bars: Mapping[str, Mapping[str, float]], colours: Mapping[str, str], unit: str, title: str
) -> dg.MarkdownMetadataValue:
    def draw(axes: Any) -> None:
        left = dict.fromkeys(bars, 0.0)
        for part, colour in colours.items():
            values = [bars[name].get(part, 0) for name in bars]
            if any(values):
                axes.barh(list(bars), values, left=list(left.values()), color=colour, label=part)
                left = {name: left[name] + value for name, value in zip(bars, values, strict=True)}
        axes.set(xlabel=unit, title=title)
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter("{x:,.6g}")
        if left and any(left.values()):
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, frameon=False)

    return _image(draw, title, 1.2 + 0.28 * max(len(bars), 1), legend=list(colours), labels=list(bars))


def _image(
    draw: Callable[[Any], None],
    alternative: str,
    height: float = 3.6,
    *,
    legend: Sequence[str],
    labels: Sequence[str] = (),
) -> dg.MarkdownMetadataValue:
    """A figure ``height`` inches high, and wide enough for the ``legend`` on its right and the axis' ``labels`` on its left.

    The room is reckoned from the texts' lengths: matplotlib's own layout draws everything several times to find out.
    """
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    left = max(0.75, 0.25 + _LABEL_INCHES * max(map(len, labels), default=0))
    right = 0.6 + _LEGEND_INCHES * max(map(len, legend), default=0)
    width = left + _AXES_INCHES + right
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, 0.5 / height, _AXES_INCHES / width, 1 - 0.9 / height))
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=90)
    return dg.MetadataValue.md(f"![{alternative}](data:image/png;base64,{base64.b64encode(png.getvalue()).decode()})")
