"""What ``run`` ends with: what was made, what failed and why, which pairs rose and fell, what it cost, where things are."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from star_pipeline.adapters.lake import Lake
from star_pipeline.commands.run import RunOutcome
from star_pipeline.core.health.examination import SAME_IN_SHARDS
from star_pipeline.core.health.lines import FINE, measured, too_few
from star_pipeline.core.publishing.makeup import makeup
from star_pipeline.core.publishing.ranking import by_mean_pi, mean_pi_tells
from star_pipeline.core.records import HealthLine
from star_pipeline.core.tables import STAR_DATASET
from star_pipeline.defs.build import DEFAULT_CONFIG, DEFAULT_LAKE
from star_pipeline.inspection.build import open_inspection

_HEALTH = tuple(field.name for field in dataclasses.fields(HealthLine))
_COLOURS = {"unfit": "bold red", "doubtful": "yellow"}


def print_summary(console: Console, lake: Lake, outcome: RunOutcome, config: str = DEFAULT_CONFIG) -> bool:
    """Print it; returns whether the result is what was asked for: every live seed has its row in the final data set, or was left
    out on purpose, and no row failed for a reason that another run may not meet.

    ``config`` is the one that the run was given, for the command that opens the UI.
    """
    usual = str(lake.root) == os.path.abspath(DEFAULT_LAKE)
    options = "" if config == DEFAULT_CONFIG else f" --config {config}"
    options += "" if usual else f" --lake {lake.root}"
    with open_inspection(lake) as database:

        def rows(sql: str) -> list[tuple[Any, ...]]:  # Any: the query says what the columns hold
            return list(database.execute(sql).fetchall())

        live, gone = rows("SELECT count(*) FILTER (WHERE live), count(*) FILTER (WHERE NOT live) FROM seed_catalog")[0]
        final = rows("SELECT count(*) FROM star_dataset")[0][0]
        done, failed = rows("SELECT count(*), count(*) FILTER (WHERE status = 'failed') FROM candidates")[0]
        kinds = rows(
            "SELECT error_kind, count(*) FROM candidates WHERE status = 'failed' GROUP BY 1 ORDER BY 2 DESC, 1"
        )
        unscored = rows(
            "SELECT i.status, count(*) FROM ifd_scores AS i JOIN candidates AS c USING (candidate_id) "
            "WHERE c.status <> 'failed' AND i.status <> 'ok' GROUP BY 1 ORDER BY 2 DESC, 1"
        )
        verdicts = rows("SELECT verdict, count(*) FROM judge_verdicts GROUP BY 1 ORDER BY 2 DESC, 1")
        selections = rows("SELECT selection, count(*) FROM star_dataset GROUP BY 1 ORDER BY 2 DESC, 1")
        made_of = makeup(rows("SELECT origin, pair_id, rows FROM selections"))
        board = rows(
            "SELECT {'pair_id': pair_id, 'mean_pi': mean_pi, 'mean_pi_low': mean_pi_low, 'mean_pi_high': mean_pi_high, "
            "'candidates': candidates, 'failed': failed, 'probability': probability} FROM pair_leaderboard"
        )
        left_out = rows("SELECT reason, count(*) FROM left_out_rows GROUP BY 1 ORDER BY 2 DESC, 1")
        moves = rows(
            "SELECT pair_id, arg_min(probability_before, shard), arg_max(probability, shard), sum(n_sampled), sum(reward) "
            "FROM agent_pair_probabilities GROUP BY 1 ORDER BY 3 DESC, 1"
        )
        requests, cost = rows("SELECT coalesce(sum(requests), 0), coalesce(sum(cost_usd), 0) FROM costs")[0]
        saved, judge_usd = rows(
            "SELECT 2 * count(*) FILTER (WHERE v.verdict = 'skipped' AND i.gap IS NOT NULL), "
            "avg(v.cost_usd) FILTER (WHERE v.attempts > 0) / 2 "
            "FROM judge_verdicts AS v JOIN ifd_scores AS i USING (candidate_id)"
        )[0]
        paid, unsettled = rows("SELECT coalesce(sum(cost_usd), 0), coalesce(sum(reserved_usd), 0) FROM spend")[0]
        shards = rows("SELECT count(DISTINCT shard) FROM agent_pair_probabilities")[0][0]
        health = [HealthLine(*row) for row in rows(f"SELECT {', '.join(_HEALTH)} FROM health")]

    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column()
    notes = [f"{outcome.update.duplicates:,} duplicate records dropped"] if outcome.update.duplicates else []
    rejected = len(outcome.update.rejected)
    notes += [f"{rejected:,} bad rows left out (table rejected_rows)"] if rejected else []
    notes += [f"{gone:,} no longer among the seeds"] if gone else []
    facts.add_row("seeds", f"{live:,} in {shards:,} shards" + "".join(f"; {note}" for note in notes))
    beside = f", not scored: {_listed(unscored)} (star-pipeline query failures)" if unscored else ""
    facts.add_row("candidates", f"{done:,}, {failed:,} failed" + (f" ({_listed(kinds)})" if kinds else "") + beside)
    facts.add_row("verdicts", _listed(verdicts) or "none")
    kept_out = sum(count for _, count in left_out)
    beside = f"; {kept_out:,} left out by the settings under dataset ({_listed(left_out)})" if left_out else ""
    facts.add_row("selected", (_listed(selections) or "none") + beside)
    facts.add_row("final rows", f"{final:,}" + (f": {made_of}" if made_of else ""))
    facts.add_row("cost", f"{cost:.4f} USD for {requests:,} LLM requests" + _paid(cost, paid, unsettled))
    if saved:
        worth = f", about {saved * judge_usd:.4f} USD" if judge_usd else ""
        facts.add_row("saved", f"{saved:,} judge calls{worth}: the gap is not positive (judge.skip_nonpositive_gap)")
    facts.add_row("time", f"{outcome.seconds:.0f} s")

    pairs = Table(
        title="Agent-pairs", title_justify="left", title_style="bold", box=None, padding=(0, 2), pad_edge=False
    )
    for title in ("pair", "drawn", "reward", "probability", "change"):
        pairs.add_column(title, justify="left" if title == "pair" else "right")
    for pair_id, first, last, drawn, reward in moves:
        change = last - first
        style = "green" if change > 5e-5 else "red" if change < -5e-5 else ""
        pairs.add_row(pair_id, f"{drawn:,}", f"{reward:.2f}", f"{last:.1%}", f"{change * 100:+.2f} points", style=style)

    console.print()
    console.print(facts)
    console.print()
    if health:
        _print_health(console, health)
        console.print()
    console.print(pairs)
    if told := mean_pi_tells(by_mean_pi(row for (row,) in board)):
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    console.print()
    for title, place in (
        ("final data set", f"{lake.table(STAR_DATASET)} ({final:,} rows)"),
        (
            "for DuckDB",
            f"{lake.inspection} (star-pipeline query --list{'' if usual else f'; --lake {lake.root} with each query'})",
        ),
        ("report", str(lake.report)),
        ("in the UI", f"star-pipeline dev{options}"),
    ):
        console.print(f"[bold]{title:15}[/] ", end="")
        console.print(place, markup=False, highlight=False, soft_wrap=True)
    said = {SAME_IN_SHARDS.get(line.signature) for line in health if line.verdict != FINE}
    for warning in outcome.warnings:
        if warning.split(": ", 1)[0].rsplit(", ", 1)[-1] in said:
            continue
        console.print("[yellow]warning[/] ", end="")
        console.print(warning, markup=False, highlight=False, soft_wrap=True)
    missing = live - final - kept_out
    if missing:
        console.print(f"{missing:,} of {live:,} live seeds have no row in the final data set", style="red")
    for line in outcome.to_try:
        console.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
    return bool(missing == 0) and not outcome.to_try


def _print_health(console: Console, health: Sequence[HealthLine]) -> None:
    """For each signature that is not fine, the worst first, its figure, meaning and remedy, a line each; one line for all others."""
    console.print("Health (star-pipeline query health)", style="bold")
    for line in health:
        if line.verdict != FINE:
            console.print(f"[{_COLOURS[line.verdict]}]{line.verdict:10}[/]", end="")
            for said in (
                f"{line.signature}: {measured(line)}",
                f"{'':10}{line.meaning}",
                f"{'':10}remedy: {line.remedy}",
            ):
                console.print(said, markup=False, highlight=False, soft_wrap=True)
    fine = [line for line in health if line.verdict == FINE]
    few = [line.signature for line in fine if too_few(line)]
    told = [line.signature for line in fine if not too_few(line)]
    for title, style, names in (("fine", "green", told), ("too few", "dim", few)):
        if names:
            console.print(f"[{style}]{title:10}[/]", end="")
            console.print(", ".join(names), markup=False, highlight=False, soft_wrap=True)


def _paid(cost: float, paid: float, unsettled: float) -> str:
    """What was paid besides the tables: for tables made anew since, and for requests whose fate nobody knows."""
    notes = []
    if paid - cost > 5e-5:
        notes.append(f"paid in all {paid:.4f} USD, of which {paid - cost:.4f} for what is no longer in the tables")
    notes += [f"up to {unsettled:.4f} USD for requests whose fate nobody knows"] if unsettled > 5e-5 else []
    return "".join(f"; {note}" for note in notes)


def _listed(pairs: list[tuple[Any, ...]]) -> str:  # (name, count), as a query gives them
    return ", ".join(f"{count:,} {name}" for name, count in pairs)
