"""``star-pipeline replay``: the probability curves of Eq. 8 for another rate or floor, from the tables of a lake, without any call."""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.snapshots import fold_inputs
from star_pipeline.core.equations.evolution import (
    EvolutionRules,
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
    "off-policy: the draws are those of the recorded run; another rate would have drawn other pairs in later shards, "
    "which this cannot know"
)


@dataclass(frozen=True)
class Replayed:
    """A shard's snapshot as recorded and as replayed, pair by pair, and the rate and floor of either."""

    shard: str
    recorded: list[PairProbability]
    replayed: list[PairProbability]
    recorded_rate: float | None
    recorded_floor: float | None
    rate: float
    floor: float


def replay(lake: Lake, rate: float | None, floor: float | None) -> Iterator[Replayed]:
    """Fold every snapshot anew, in order, with ``rate`` (β of Eq. 8) and ``floor``; None keeps what each shard was folded with.

    It ends at the first shard without a snapshot. Raises LakeError where there is none at all, or where a table does not say
    what it was folded with and ``rate`` or ``floor`` is None; ConfigError for a floor that a shard's pairs have no room for.
    """
    before = None
    for shard in lake.catalog_shards():
        if not lake.has_table(AGENT_PAIR_PROBABILITIES, shard):
            break
        recorded = lake.read_table(AGENT_PAIR_PROBABILITIES, shard)
        recorded_rate, recorded_floor = _folded_with(lake, shard)
        used_rate = _given_or_recorded("rate", rate, recorded_rate, shard)
        used_floor = _given_or_recorded("floor", floor, recorded_floor, shard)
        if used_floor * len(recorded) > 1 + 1e-12:
            raise ConfigError(
                f"--floor {used_floor:g}: for the {len(recorded)} pairs of shard {shard} it sums to more than 1; "
                f"expected at most {1 / len(recorded):.6g}"
            )
        pairs = [row.pair_id for row in recorded]
        replayed = fold_shard(
            for_pairs(before, pairs) if before else initial_snapshot(pairs),
            fold_inputs(lake, shard),
            EvolutionRules(used_rate, used_floor),
        )
        before = snapshot_of(replayed)
        yield Replayed(shard, recorded, replayed, recorded_rate, recorded_floor, used_rate, used_floor)
    if before is None:
        raise LakeError(f"{lake.root}: no snapshot to replay; make some with: star-pipeline run --lake {lake.root}")


def _folded_with(lake: Lake, shard: str) -> tuple[float | None, float | None]:
    """Rate and floor that the shard's snapshot was folded with, as its table says; None, None where it does not."""
    said = (lake.read_arrow(AGENT_PAIR_PROBABILITIES, shard).schema.metadata or {}).get(b"config_settings")
    if said is None:
        return None, None
    evolution = json.loads(said)["evolution"]
    return evolution["rate"], evolution["floor"]


def _given_or_recorded(name: str, given: float | None, recorded: float | None, shard: str) -> float:
    if given is not None:
        return given
    if recorded is None:
        raise LakeError(
            f"the snapshot of shard {shard} does not say which {name} it was folded with (an earlier version wrote it); give --{name}"
        )
    return recorded


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


def _totals(step: Replayed) -> dict[str, float | None]:
    return {
        "recorded_entropy_bits": entropy(row.probability for row in step.recorded),
        "replayed_entropy_bits": entropy(row.probability for row in step.replayed),
        "recorded_rate": step.recorded_rate,
        "recorded_floor": step.recorded_floor,
        "rate": step.rate,
        "floor": step.floor,
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
    entropies = totals["recorded_entropy_bits"], totals["replayed_entropy_bits"]
    table.add_row("entropy, bits", "", "", *(f"{value:.4f}" for value in entropies), "", style="bold")
    console.print(f"After {len(steps):,} shards, {steps[-1].shard} the last")
    for title, rates in (
        ("recorded", [(step.recorded_rate, step.recorded_floor) for step in steps]),
        ("replayed", [(step.rate, step.floor) for step in steps]),
    ):
        console.print(f"{title}: rate and floor {_in_turn(rates)}")
    console.print(table)
    console.print(f"({NOTE})")


def _in_turn(pairs: Sequence[tuple[float | None, float | None]]) -> str:
    """The distinct rates and floors, in order: more than one where the configuration has changed on a living lake."""
    return ", then ".join(
        "unknown" if rate is None else f"{rate:g} and {floor:g}" for rate, floor in dict.fromkeys(pairs)
    )
