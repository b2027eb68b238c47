"""``star-pipeline replay``: the probability curves of another method, rate or floor, from the tables of a lake, without any call."""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from rich.console import Console
from rich.table import Table

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.snapshots import fold_inputs
from star_pipeline.config.evolution import EvolutionConfig
from star_pipeline.core.equations.evolution import (
    EvolutionRules,
    Method,
    entropy,
    fold_shard,
    for_pairs,
    initial_snapshot,
    snapshot_of,
)
from star_pipeline.core.errors import ConfigError, LakeError
from star_pipeline.core.records import PairProbability
from star_pipeline.core.tables import AGENT_PAIR_PROBABILITIES

FORMATS = ("table", "csv", "json")
NOTE = (
    "off-policy: the draws are those of the recorded run; other rules would have drawn other pairs in later shards, "
    "which this cannot know"
)


@dataclass(frozen=True)
class Replayed:
    """A shard's snapshot as recorded and as replayed, pair by pair, and the rules of either; None where nothing tells."""

    shard: str
    recorded: list[PairProbability]
    replayed: list[PairProbability]
    recorded_rules: EvolutionRules | None
    rules: EvolutionRules


def replay(
    lake: Lake, rate: float | None, floor: float | None, method: Method | None = None, cost_weight: float | None = None
) -> Iterator[Replayed]:
    """Fold every snapshot anew, in order, by other rules; None keeps what each shard was folded with. A ``rate`` alone means Eq. 8.

    It ends at the first shard without a snapshot. Raises LakeError where there is none at all, or where a table does not say
    what it was folded with and a rule is None; ConfigError for a floor that a shard's pairs have no room for.
    """
    before = None
    method = method or ("eq8" if rate is not None else None)
    for shard in lake.catalog_shards():
        if not lake.has_table(AGENT_PAIR_PROBABILITIES, shard):
            break
        recorded = lake.read_table(AGENT_PAIR_PROBABILITIES, shard)
        folded_with = _folded_with(lake, shard)
        rules = _rules(folded_with, rate, floor, method, cost_weight, shard)
        if rules.floor * len(recorded) > 1 + 1e-12:
            raise ConfigError(
                f"--floor {rules.floor:g}: for the {len(recorded)} pairs of shard {shard} it sums to more than 1; "
                f"expected at most {1 / len(recorded):.6g}"
            )
        pairs = [row.pair_id for row in recorded]
        replayed = fold_shard(
            for_pairs(before, pairs) if before else initial_snapshot(pairs), fold_inputs(lake, shard, rules), rules
        )
        before = snapshot_of(replayed)
        yield Replayed(shard, recorded, replayed, folded_with, rules)
    if before is None:
        raise LakeError(f"{lake.root}: no snapshot to replay; make some with: star-pipeline run --lake {lake.root}")


def known_method(given: str | None) -> Method | None:
    """Raises ConfigError for a method that there is not."""
    methods = {name: name for name in get_args(Method)}
    if given is not None and given not in methods:
        raise ConfigError(f"--method {given}: there is no such method; expected {' or '.join(methods)}")
    return methods[given] if given else None


def _folded_with(lake: Lake, shard: str) -> EvolutionRules | None:
    """The rules that the shard's snapshot was folded by, as its table says; None where it does not."""
    said = (lake.read_arrow(AGENT_PAIR_PROBABILITIES, shard).schema.metadata or {}).get(b"config_settings")
    return None if said is None else EvolutionConfig.model_validate(json.loads(said)["evolution"]).rules


def _rules(
    recorded: EvolutionRules | None,
    rate: float | None,
    floor: float | None,
    method: Method | None,
    cost_weight: float | None,
    shard: str,
) -> EvolutionRules:
    if recorded is None:
        needed = {"rate": rate if method == "eq8" or method is None else 0.0, "floor": floor}
        for name, given in needed.items():
            if given is None:
                raise LakeError(
                    f"the snapshot of shard {shard} does not say which {name} it was folded with (an earlier version wrote it); "
                    f"give --{name}"
                )
        recorded = EvolutionRules(rate or 0.0, floor or 0.0, method or "eq8")
    if rate is None and method == "eq8" != recorded.method:
        rate = EvolutionConfig(method="eq8").rate
    return EvolutionRules(
        recorded.rate if rate is None else rate,
        recorded.floor if floor is None else floor,
        method or recorded.method,
        recorded.cost_weight if cost_weight is None else cost_weight,
    )


def print_replay(steps: list[Replayed], form: str) -> None:
    """To standard output, in one of FORMATS: the table tells the end, csv and json every shard. The note is in all of them."""
    if form == "json":
        curves = [{"shard": step.shard, **_totals(step), "pairs": _pairs(step)} for step in steps]
        print(json.dumps({"note": NOTE, "shards": curves}, ensure_ascii=False, indent=1))
    elif form == "csv":
        rows = [{"shard": step.shard, **row, **_totals(step)} for step in steps for row in _pairs(step)]
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        print(f"({NOTE})", file=sys.stderr)
    else:
        _print_table(steps)


def _pairs(step: Replayed) -> list[dict[str, object]]:
    return [
        {
            "pair_id": old.pair_id,
            "n_sampled": old.n_sampled,
            "reward": old.reward,
            "recorded": old.probability,
            "replayed": new.probability,
        }
        for old, new in zip(step.recorded, step.replayed, strict=True)
    ]


def _totals(step: Replayed) -> dict[str, float | str | None]:
    return {
        "recorded_entropy_bits": entropy(row.probability for row in step.recorded),
        "replayed_entropy_bits": entropy(row.probability for row in step.replayed),
        "recorded_rate": step.recorded_rules.rate if step.recorded_rules else None,
        "recorded_floor": step.recorded_rules.floor if step.recorded_rules else None,
        "rate": step.rules.rate,
        "floor": step.rules.floor,
        "recorded_method": step.recorded_rules.method if step.recorded_rules else None,
        "method": step.rules.method,
    }


def _print_table(steps: list[Replayed]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    last, totals = steps[-1], _totals(steps[-1])
    table = Table(box=None, padding=(0, 2), pad_edge=False, header_style="bold")
    for title in ("pair", "drawn", "reward", "recorded", "replayed", "difference"):
        table.add_column(title, justify="left" if title == "pair" else "right")
    drawn = {row.pair_id: (0, 0.0) for row in last.recorded}
    for step in steps:
        for row in step.replayed:
            if row.pair_id in drawn:
                count, reward = drawn[row.pair_id]
                drawn[row.pair_id] = (count + row.n_sampled, reward + row.reward)
    both = zip(last.recorded, last.replayed, strict=True)
    for old, new in sorted(both, key=lambda rows: (-rows[1].probability, rows[1].pair_id)):
        count, reward = drawn[new.pair_id]
        table.add_row(
            new.pair_id,
            f"{count:,}",
            f"{reward:.2f}",
            f"{old.probability:.2%}",
            f"{new.probability:.2%}",
            f"{100 * (new.probability - old.probability):+.2f} points",
        )
    entropies = (float(totals[f"{which}_entropy_bits"] or 0) for which in ("recorded", "replayed"))
    table.add_row("entropy, bits", "", "", *(f"{value:.4f}" for value in entropies), "", style="bold")
    console.print(f"After {len(steps):,} shards, {steps[-1].shard} the last")
    console.print(f"recorded: {_in_turn([step.recorded_rules for step in steps])}")
    console.print(f"replayed: {_in_turn([step.rules for step in steps])}")
    console.print(table)
    console.print(f"({NOTE})")


def _in_turn(rules: Sequence[EvolutionRules | None]) -> str:
    """The distinct rules, in order: more than one where the configuration has changed on a living lake."""
    told: list[str] = []
    for number, rule in enumerate(dict.fromkeys(rules)):
        of = "" if number else "rate and floor "
        if rule is None:
            told.append(f"{of}unknown")
            continue
        costs = f", {rule.cost_weight:g} π a USD" if rule.cost_weight else ""
        told.append(
            (
                f"thompson, floor {rule.floor:g}"
                if rule.method == "thompson"
                else f"{of}{rule.rate:g} and {rule.floor:g}"
            )
            + costs
        )
    return ", then ".join(told)
