"""What the lake holds, in a few figures, and the settings it was made with. Addresses of servers are never shown."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from star_pipeline.config.scoring import BEFORE
from star_pipeline.core.aliases import JsonMapping
from star_pipeline.core.calibration.findings import IN_WORDS, CalibrationFinding
from star_pipeline.core.calibration.words import verdict, verdicts
from star_pipeline.core.publishing.makeup import makeup
from star_pipeline.core.publishing.ranking import Ranking, listed
from star_pipeline.figures.base import Row, number, share, usd, whole


@dataclass(frozen=True)
class Fact:
    """A figure of the summary: what it counts, its value, and a few words more; ``wide`` where those are many."""

    label: str
    value: str
    detail: str = ""
    wide: bool = False


def facts(summary: Row, selections: Sequence[Row], by_pi: Ranking | None) -> tuple[Fact, ...]:
    """The summary of ``sql/summary.sql``; ``selections``: the query's rows, ``by_pi``: the sampled pairs by mean π."""
    aside = [f"{summary['shards_done']:,} of {summary['shards']:,} shards done"]
    aside += [f"{summary['gone']:,} no longer among the seeds"] if summary["gone"] else []
    aside += [f"{summary['rejected_rows']:,} bad rows left out"] if summary["rejected_rows"] else []
    final, judged, made = summary["final_rows"], summary["verdicts"], summary["candidates"]
    fallbacks = final - summary["best"]
    made_of = makeup((row["origin"], row["pair_id"], row["rows"]) for row in selections)
    cost, paid = (usd(summary[name]) if summary[name] else "0" for name in ("cost_usd", "paid_usd"))
    return (
        Fact("seeds", whole(summary["seeds"]), "; ".join(aside)),
        Fact(
            "candidates",
            whole(made),
            f"{summary['failed']:,} failed"
            + (f" ({share(summary['failed'] / made)})" if made else "")
            + (f", {summary['unscored']:,} not scored" if summary["unscored"] else ""),
        ),
        Fact(
            "verdicts",
            whole(judged),
            f"{summary['flipped']:,} reversed" + (f" ({share(summary['flipped'] / judged)})" if judged else ""),
        ),
        Fact(
            "final rows",
            whole(final),
            (f"{made_of}; " if made_of else "")
            + f"{summary['best']:,} best of their seed, {fallbacks:,} fallbacks"
            + (f", {summary['left_out']:,} left out" if summary["left_out"] else ""),
        ),
        Fact(
            "mean π, final rows",
            "none" if summary["mean_pi"] is None else f"{summary['mean_pi']:.3f}",
            "1 is the most (Eq. 7)",
        ),
        _ahead(by_pi),
        Fact(
            "cost",
            f"{cost} USD",
            f"of what is in the tables: {summary['requests']:,} requests, {summary['tokens']:,} tokens; paid in all: {paid} USD"
            + (", tables made anew since counted in" if summary["paid_usd"] - summary["cost_usd"] > 5e-5 else ""),
        ),
        Fact("waiting for LLMs", _duration(summary["latency_s"]), "summed over the candidates"),
    )


def calibration(found: Sequence[CalibrationFinding]) -> Fact:
    """What ``calibrate`` found of the settings before they were paid for."""
    if not found:
        return Fact(
            "calibration", "never", "star-pipeline calibrate measures judge, agents and scoring models on a few seeds"
        )
    told = "; ".join(f"{subject} {IN_WORDS[what]}" for subject, what in verdicts(found).items())
    return Fact(
        "calibration", IN_WORDS[verdict(found)], f"{told}; on {found[0].seeds:,} seeds, {found[0].measured_at[:10]}"
    )


def _ahead(by_pi: Ranking | None) -> Fact:
    """The sampled pair that the intervals show to be ahead, where they show one."""
    label = "sampled pair clearly ahead"
    if by_pi is None:
        return Fact(label, "none", "there are not two to compare")
    first = by_pi.first
    between = f"mean π {number(first.centre)}" + (
        f" ({number(first.low)} to {number(first.high)})" if first.low is not None else ""
    )
    if by_pi.clear:
        return Fact(label, first.pair_id, f"{between}; no other sampled pair's interval reaches as high")
    return Fact(
        label, "none", f"{first.pair_id} has {between}, which the intervals do not tell from {listed(by_pi.rivals)}"
    )


def settings(configs: Sequence[Row]) -> tuple[Fact, ...]:
    """The settings that decided the latest configuration's shards; of the others, which shards they made."""
    if not configs:
        return ()
    latest = configs[0]
    told = [Fact("configuration", latest["name"], f"fingerprint {latest['fingerprint']}")]
    told += [
        Fact(
            "earlier configuration",
            other["name"],
            f"fingerprint {other['fingerprint']}; {other['tables']:,} tables of shards {other['first_shard']} to {other['last_shard']}",
        )
        for other in configs[1:]
    ]
    chosen: JsonMapping = json.loads(latest["settings"]) if latest["settings"] else {}
    scoring, judge, sampling = (chosen.get(section, {}) for section in ("scoring", "judge", "sampling"))
    agents = chosen.get("agents", {})
    if scoring:
        told.append(Fact("target model (small)", _model(scoring["small"])))
        told.append(Fact("large model", _model(scoring["large"])))
        told.append(
            Fact(
                "scoring",
                _asked(scoring),
                f"at most {scoring['max_length']:,} tokens, divisor {scoring['divisor']} over the {scoring['divide_over']}",
            )
        )
    judges = tuple(judge.get("agents") or (judge["agent"],)) if judge else ()
    mode = f", {judge['mode']}" if judge.get("mode") else ""
    told += [Fact("judge", name, _model(agents.get(name, {}).get("model", "")) + mode) for name in judges]
    told += [
        Fact(f"agent {name}", _model(agent["model"]), f"rewrites by {agent['instruction_prompt']}")
        for name, agent in agents.items()
        if name not in judges
    ]
    if sampling:
        told.append(
            Fact(
                "sampling",
                f"{sampling['pairs_per_seed']} pairs a seed",
                f"{sampling['from_memory']} from memory; base {', '.join(chosen['pairs']['base'])}",
            )
        )
    if "evolution" in chosen:
        evolution = chosen["evolution"]
        lag = f", lag {evolution['lag']}" if evolution.get("lag") else ""
        how = f"rate {evolution['rate']:g}" if evolution.get("method", "eq8") == "eq8" else evolution["method"]
        costs = f", {evolution['cost_weight']:g} π a USD" if evolution.get("cost_weight") else ""
        told.append(Fact("evolution", how, f"floor {evolution['floor']:g}{costs}{lag}"))
    return tuple(told)


def _asked(scoring: JsonMapping) -> str:
    """The template, and what later versions can set beside it where it is not what was done before."""
    own = [
        f"{size} by template {model['template']}"
        for size in ("small", "large")
        if isinstance(model := scoring[size], Mapping) and model.get("template")
    ]
    changed = [f"{key} {scoring[key]}" for key, before in BEFORE.items() if scoring.get(key, before) != before]
    return ", ".join([f"template {scoring['template']}", *own, *changed])


def _model(given: str | JsonMapping) -> str:
    """A model's name: without its server's address, of a folder the last part only."""
    name = str(given["model"] if isinstance(given, Mapping) else given).split("@http", 1)[0]
    return name.rstrip("/").rsplit("/", 1)[-1] if name.startswith(("/", "~", ".")) else name


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
