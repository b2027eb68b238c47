"""What ``ifd_measures losses`` kept, as figures: each way to start and to ask by itself, then the gaps between two models."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from star_pipeline.core.aliases import Values
from star_pipeline.core.equations.calibration import Calibration, ranked_gaps
from star_pipeline.core.intervals import Estimate, auc, bootstrap, share, spearman

_BINS = (2, 5, 10, 20, 40, 10_000)
"""Most tokens of a response in each bin."""
_RULES: tuple[Calibration, ...] = ("none", "rank", "rank_by_length")
_STARTS = ("token", "skip_first", "newline", "pad")
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Losses:
    """One response's, by way: (n,) nats each."""

    win: float | None
    ways: Mapping[str, Values]

    @property
    def tokens(self) -> int:
        return len(self.ways["alone"])

    def ifd(self, asked: str, start: str) -> float:
        """nan where it cannot be had."""
        alone = {"newline": "alone_newline", "pad": "alone_pad"}.get(start, "alone")
        # with a prompt before the response, a newline at the very start changes next to nothing: its own pass where it was made
        given = f"{asked}_newline" if start == "newline" and f"{asked}_newline" in self.ways else asked
        first = int(start == "skip_first")
        if given not in self.ways or alone not in self.ways or self.tokens <= first:
            return math.nan
        return math.exp(float(self.ways[given][first:].mean() - self.ways[alone][first:].mean()))


def read(path: Path) -> dict[Key, Losses]:
    ways: dict[Key, dict[str, Values]] = {}
    wins: dict[Key, float | None] = {}
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        key = row["kind"], row["group"], row["name"]
        ways.setdefault(key, {})[row["way"]] = np.asarray(row["losses"])
        wins[key] = row["win"]
    return {key: Losses(wins[key], found) for key, found in ways.items() if "alone" in found}


def show(small: Path, large: Path) -> None:
    both = {path.stem: read(path) for path in (small, large)}
    for name, rows in both.items():
        one_model(name, rows)
    two_models(*both.values())


def one_model(name: str, rows: Mapping[Key, Losses]) -> None:
    pairs = [row for (kind, _, _), row in rows.items() if kind == "pair"]
    first = [
        (row.ways["alone"][0], row.ways["plain"][0], row.ways["plain"][1:].mean())
        for row in pairs
        if row.tokens > 1 and "plain" in row.ways
    ]
    told = np.asarray(first).mean(0)
    _head(f"{name}: {len(pairs)} pairs, {len(rows) - len(pairs)} answers")
    print(
        f"first token {told[0]:.1f} nats after a bare start, {told[1]:.1f} after the instruction; the others {told[2]:.1f}"
    )
    print(
        "asked | start | true below another's (AUC) | the same, paired | paired, up to 10 tokens | reworded (rho) | with length (rho) | "
        "IFD above 1"
    )
    for asked in ("plain", "alpaca", "chat"):
        for start in _STARTS:
            _ways(pairs, list(rows.values()), asked, start)
    print("tokens | pairs | paired accuracy | IFD, median | IFD, 10% to 90%")
    for asked in ("plain", "chat"):
        for low, high in zip((0, *_BINS), _BINS, strict=False):
            some = [
                row for row in pairs if low < row.tokens <= high and f"{asked}_other" in row.ways and asked in row.ways
            ]
            if some:
                values = [row.ifd(asked, "token") for row in some]
                right = share(
                    sum(row.ifd(asked, "token") < row.ifd(f"{asked}_other", "token") for row in some), len(some)
                )
                ends = np.quantile(values, (0.1, 0.5, 0.9))
                spread = f"{ends[1]:.2f} | {ends[0]:.2f} to {ends[2]:.2f}"
                print(f"{asked} {low + 1}-{high} | {len(some)} | {_told(right)} | {spread}")


def _ways(pairs: Sequence[Losses], rows: Sequence[Losses], asked: str, start: str) -> None:
    known = [(row.ifd(asked, start), row.ifd(f"{asked}_other", start), row.tokens) for row in pairs]
    known = [each for each in known if not math.isnan(each[0] + each[1])]
    again = [(row.ifd(asked, start), row.ifd(f"{asked}_reworded", start)) for row in pairs]
    again = [each for each in again if not math.isnan(sum(each))]
    lengths = [(value, row.tokens) for row in rows if not math.isnan(value := row.ifd(asked, start))]
    if not known:
        return
    below = bootstrap([each[:2] for each in known], lambda drawn: auc([g[1] for g in drawn], [g[0] for g in drawn]))
    paired, short = ([true < other for true, other, count in known if count <= most] for most in (10_000, 10))
    print(
        f"{asked} | {start} | {_told(below)} | {_told(share(sum(paired), len(paired)))} | {_told(share(sum(short), len(short)))} | "
        f"{_told(_rho(again))} | {_told(_rho(lengths))} | {np.mean([value > 1 for value, _ in lengths]):.0%} of {len(lengths)}"
    )


def two_models(small: Mapping[Key, Losses], large: Mapping[Key, Losses]) -> None:
    keys = [key for key in small if key in large]
    _head(f"gaps: {len(keys)} responses under both")
    print(
        "small | large | start | gap | positive | with length (rho) | tokens: all, and of the largest fifth (median) | "
        "length of the seed's largest (0 shortest, 1 longest) | agrees with the judge, in the seed | with log-odds (rho)"
    )
    answers = [key for key in keys if key[0] == "answer"]
    longer = _agreement(answers, small, {key: float(small[key].tokens) for key in answers})
    print(f"longer is better: agrees with the judge in {_told(longer)}")
    for asked_small, asked_large in (("plain", "plain"), ("plain", "chat"), ("alpaca", "chat")):
        for start in _STARTS[:3]:
            for rule in _RULES:
                _gaps(keys, small, large, (asked_small, asked_large), start, rule)
    print(
        "tokens | responses | IFD small | IFD large | gap, median | gap, 10% to 90% | positive (token, plain and plain)"
    )
    for low, high in zip((0, *_BINS), _BINS, strict=False):
        some = [key for key in keys if low < small[key].tokens <= high]
        values = np.asarray([[side[key].ifd("plain", "token") for side in (small, large)] for key in some])
        values = values[~np.isnan(values).any(1)] if some else values
        if len(values):
            gaps = values[:, 0] - values[:, 1]
            ends = np.quantile(gaps, (0.1, 0.5, 0.9))
            print(
                f"{low + 1}-{high} | {len(values)} | {np.median(values[:, 0]):.2f} | {np.median(values[:, 1]):.2f} | {ends[1]:+.2f} | "
                f"{ends[0]:+.2f} to {ends[2]:+.2f} | {np.mean(gaps > 0):.0%}"
            )


def _gaps(
    keys: Sequence[Key],
    small: Mapping[Key, Losses],
    large: Mapping[Key, Losses],
    asked: tuple[str, str],
    start: str,
    rule: Calibration,
) -> None:
    ifds = {
        key: tuple(side[key].ifd(way, start) for side, way in zip((small, large), asked, strict=True)) for key in keys
    }
    scored = [key for key in keys if not math.isnan(sum(ifds[key]))]
    if not scored:
        return
    # one shard of all responses: pairs of every length, and several answers to one instruction
    ones, others = ([ifds[key][side] for key in scored] for side in (0, 1))
    lengths = [small[key].tokens for key in scored]
    values = np.subtract(ones, others) if rule == "none" else ranked_gaps(ones, others, lengths, rule)
    gap = dict(zip(scored, values.tolist(), strict=True))
    fifth = sorted(scored, key=lambda key: -gap[key])[: max(1, len(scored) // 5)]
    answers = [key for key in scored if key[0] == "answer"]
    wins = [(gap[key], _log_odds(small[key].win)) for key in answers]
    print(
        f"{asked[0]} | {asked[1]} | {start} | {rule} | {np.mean(values > 0):.0%} of {len(scored)} | "
        f"{_told(_rho(list(zip(gap.values(), map(float, lengths), strict=True))))} | {np.median(lengths):.0f}, "
        f"{np.median([small[key].tokens for key in fifth]):.0f} | {_told(_place(answers, small, gap))} | "
        f"{_told(_agreement(answers, small, gap))} | {_told(_rho(wins))}"
    )


def _by_seed(keys: Sequence[Key]) -> list[list[Key]]:
    groups: dict[str, list[Key]] = {}
    for key in keys:
        groups.setdefault(key[1], []).append(key)
    return [members for members in groups.values() if len(members) > 1]


def _place(keys: Sequence[Key], rows: Mapping[Key, Losses], gap: Mapping[Key, float]) -> Estimate | None:
    """Where the answer with the seed's largest gap stands among the seed's by length."""
    places = []
    for members in _by_seed(keys):
        best = max(members, key=lambda key: gap[key])
        others = [rows[key].tokens for key in members if key != best]
        places.append(
            [float(np.mean([(rows[best].tokens > other) + 0.5 * (rows[best].tokens == other) for other in others]))]
        )
    return bootstrap(places, lambda drawn: float(np.mean(np.concatenate(drawn))))


def _agreement(keys: Sequence[Key], rows: Mapping[Key, Losses], value: Mapping[Key, float]) -> Estimate | None:
    """Of two answers to one instruction, how often the one that the judge prefers has the larger value."""
    groups = []
    for members in _by_seed(keys):
        agreed = [
            float((value[a] > value[b]) == (one > other)) if value[a] != value[b] else 0.5
            for a, b in combinations(members, 2)
            if (one := _log_odds(rows[a].win)) != (other := _log_odds(rows[b].win))
        ]
        groups += [agreed] if agreed else []
    return bootstrap(groups, lambda drawn: float(np.mean(np.concatenate(drawn))))


def _log_odds(win: float | None) -> float:
    chance = min(max(win or 0.0, 1e-12), 1 - 1e-12)
    return math.log(chance / (1 - chance))


def _rho(pairs: Sequence[tuple[float, float]]) -> Estimate | None:
    both: Callable[[list[Values]], float] = lambda drawn: spearman([g[0] for g in drawn], [g[1] for g in drawn])  # noqa: E731
    return bootstrap(pairs, both) if len(pairs) > 4 else None


def _told(found: Estimate | None) -> str:
    return "-" if found is None else f"{found.figure:.2f} ({found.low:.2f} to {found.high:.2f})"


def _head(text: str) -> None:
    print(f"\n== {text}")
