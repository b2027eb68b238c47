"""An independent check of a finished lake: everything that follows from its tables is computed again, plainly and slowly.

Written from the design alone; nothing of star_pipeline is imported. The config must be the one that made the whole lake.
"""

# fmt: off  # one line an equation
import math
from collections import Counter, namedtuple
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from scipy import stats

Row = dict[str, Any]
Tables = dict[str, list[Row]]
Joined = namedtuple("Joined", "seed plan made ifd score verdict")
Shard = dict[str, list[Joined]]  # by seed_id, in order
COLUMNS = {
    "seed_shards": "seed_id source source_row system history instruction response",
    "sampling_plan": "seed_id slot pair_id instruction_agent response_agent origin probability snapshot_id neighbour_seed_ids",
    "candidates": "candidate_id seed_id slot pair_id instruction response status error prompt_tokens completion_tokens cost_usd latency_s",
    "ifd_scores": "candidate_id seed_id status truncated n_tokens_small nll_given_small nll_alone_small ifd_small n_tokens_large "
    "nll_given_large nll_alone_large ifd_large gap",
    "judge_verdicts": "candidate_id base_candidate_id verdict flipped pi_llm reply_first reply_swapped error cost_usd",
    "composite_scores": "candidate_id seed_id pair_id pi_dual pi_llm pi rank selected selection",
    "agent_pair_probabilities": "snapshot_id parent_snapshot_id shard pair_id n_sampled reward probability_before probability",
    "star_dataset": "seed_id messages instruction response pair_id pi pi_dual pi_llm ifd_small ifd_large gap shard source selection",
}
ALPACA = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
ALPACA += "### Instruction:\n{instruction}\n\n### Response:"


class Found(list[str]):
    tolerance = 1e-9  # relative, and absolute below 1; the models' 1e-4 is relative throughout

    def unless(self, holds: bool, line: str) -> None:
        if not holds:
            self.append(line)

    def compare(self, where: str, row: Row, **wanted: Any) -> None:
        for name, value in wanted.items():
            stored, same = row[name], row[name] == value
            if isinstance(value, float) and isinstance(stored, float | int):
                same = abs(stored - value) <= self.tolerance * max(abs(value), 1.0 if self.tolerance < 1e-6 else 0.0)
            self.unless(bool(same), f"{where}: {name} is {stored!r}, should be {value!r}")


def disagreements(lake: Path, config: Path, ifd_rows: int | None = None) -> list[str]:
    """What differs from the design, a readable line each. ``ifd_rows`` limits how many candidates pass through the models again."""
    found, shards, knobs = Found(), {}, _knobs(yaml.safe_load(config.read_text()))
    for key in sorted(path.stem for path in (lake / "tables/seed_shards").glob("*.parquet")):
        shards[key] = {
            table: _read(lake / f"tables/{table}/{key}.parquet", table, found)
            for table in COLUMNS
            if table != "star_dataset"
        }
    dataset = _read(lake / "star_dataset/star_dataset.parquet", "star_dataset", found)
    joined = {key: _join(key, tables, found) for key, tables in shards.items()} if not found else {}
    if found:
        return found  # what follows needs every column, and the rows beside each other
    ids = Counter(row["candidate_id"] for tables in shards.values() for row in tables["candidates"])
    found += [f"candidates: {n} rows have candidate_id {i}" for i, n in ids.items() if n > 1]
    catalog = pq.read_table(lake / "tables/seed_catalog.parquet").to_pylist()
    live, knobs["all_live"] = {row["seed_id"] for row in catalog if row["live"]}, all(row["live"] for row in catalog)
    bank: dict[str, str] = {}  # of the shards before: seed_id → the pair selected as `best`
    p, parent = {pair: 1 / len(knobs["sampled"]) for pair in knobs["sampled"]}, None
    seen = []  # what a plan could be drawn from: after shard 0, 1, 2, …
    for key, tables in shards.items():
        snapshot = tables["agent_pair_probabilities"]
        p = _adapt(p, [row["pair_id"] for row in snapshot])
        seen.append((snapshot[0]["parent_snapshot_id"], p, bank))
        source, drawn_by, known = seen[max(0, len(seen) - 1 - knobs["lag"])]
        _check_plan(f"{key} sampling_plan", joined[key], source, knobs, drawn_by, known, found)
        _check_candidates(f"{key} candidates", joined[key], knobs, found)
        _check_judged(key, joined[key], knobs, found)
        _check_snapshot(key, joined[key], snapshot, knobs, p, parent, found)
        best = [row for row in tables["composite_scores"] if row["selection"] == "best"]
        bank = bank | {row["seed_id"]: row["pair_id"] for row in best if (row["pi"] or 0.0) >= knobs["min_pi"]}
        p, parent = {row["pair_id"]: row["probability"] for row in snapshot}, snapshot[0]["snapshot_id"]
    found.unless(
        set(p) == set(knobs["sampled"]), f"the last snapshot's pairs are {sorted(p)}, the config's {knobs['sampled']}"
    )
    _check_dataset(dataset, joined, live, found)
    _check_scores(joined, knobs, ifd_rows, found)
    return found


def _knobs(config: Row) -> Row:
    """The config flattened, with the design's defaults."""
    pairs, grid = config["pairs"], config["pairs"].get("sampled", config["pairs"])
    if isinstance(grid, dict):
        grid = [f"{i}+{r}" for i in grid["instruction"] for r in grid["response"]]
    always = [*pairs["base"], *(["seed"] if pairs.get("include_seed", True) and "seed" not in pairs["base"] else [])]
    knobs: Row = {
        "sampled": grid,
        "always": always,
        "prices": {},
        "pairs_per_seed": 3,
        "from_memory": 1,
        "neighbours": 10,
        "min_pi": 0.0,
    }
    knobs |= {
        "template": "alpaca",
        "max_length": 2048,
        "divisor": "p95",
        "divide_over": "shard",
        "start": "token",
        "calibration": "none",
        "least_tokens": 1,
        "rate": 0.05,
        "floor": 0.0,
        "cost_weight": 0.0,
        "totals": {},  # what each pair's draws brought up to where the check is: draws, pi, USD, pi squared
        "lag": 0,
    }
    knobs |= {"agent": None, "on_reversal": "tie", "skip_nonpositive_gap": True, "weighting": "similarity"}
    knobs |= {
        k: v
        for section in ("sampling", "scoring", "judge", "evolution", "memory")
        for k, v in (config.get(section) or {}).items()
    }
    knobs.setdefault("method", "eq8" if "rate" in (config.get("evolution") or {}) else "thompson")
    for name, agent in config[
        "agents"
    ].items():  # USD per prompt and completion token; absent where litellm's list decides
        price = agent.get("input_cost_per_token"), agent.get("output_cost_per_token")
        if agent["model"].startswith(("hosted_vllm/", "offline/")) or None not in price:
            knobs["prices"][name] = np.array([price[0] or 0.0, price[1] or 0.0])
    return knobs


def _read(path: Path, table: str, found: Found) -> list[Row]:
    data = pq.read_table(path) if path.exists() else pa.table({})
    found += [f"{path}: there is no column {name}" for name in COLUMNS[table].split() if name not in data.column_names]
    return list(data.to_pylist())


def _join(key: str, tables: Tables, found: Found) -> Shard:
    """Each seed's rows, one for every plan row: what the tables say of it side by side."""
    seeds, verdicts = (
        {row[i]: row for row in tables[t]} for t, i in (("seed_shards", "seed_id"), ("judge_verdicts", "candidate_id"))
    )
    names, shard = ("sampling_plan", "candidates", "ifd_scores", "composite_scores"), Shard()
    found.unless(
        len({len(tables[name]) for name in names}) == 1, f"{key}: there is not a row for every plan row in {names}"
    )
    if {row["seed_id"] for row in tables["sampling_plan"]} != set(seeds) or len(seeds) != len(tables["seed_shards"]):
        found.append(f"{key} sampling_plan: its seeds are not those of seed_shards, or one is there twice")
        return {}
    place = [(list(seeds).index(row["seed_id"]), row["slot"]) for row in tables["sampling_plan"]]
    found.unless(
        all(a < b for a, b in pairwise(place)),
        f"{key} sampling_plan: not sorted by seed order and slot, or a slot repeats",
    )
    due = [row["candidate_id"] for row in tables["candidates"] if row["candidate_id"] in verdicts]
    right = due == [row["candidate_id"] for row in tables["judge_verdicts"]]
    found.unless(
        right, f"{key} judge_verdicts: rows repeat, stand in another order than the candidates, or are of none"
    )
    for plan, made, ifd, score in zip(*(tables[name] for name in names), strict=False):
        for name, row in zip(names, (plan, made, ifd, score), strict=True):
            same = {n: {**made, **plan}[n] for n in ("seed_id", "slot", "pair_id", "candidate_id") if n in row}
            found.compare(f"{key} {name}: beside the plan's {plan['seed_id']} {plan['slot']}", row, **same)
        verdict = verdicts.get(made["candidate_id"])
        shard.setdefault(plan["seed_id"], []).append(Joined(seeds[plan["seed_id"]], plan, made, ifd, score, verdict))
    return shard


def _adapt(p: dict[str, float], pairs: list[str]) -> dict[str, float]:
    """A change of pairs: removed ones' share is spread in proportion, new ones enter at 1/K with the others scaled."""
    if set(p) == set(pairs):
        return {pair: p[pair] for pair in pairs}
    scale = sum(pair in p for pair in pairs) / len(pairs) / (sum(p.get(pair, 0.0) for pair in pairs) or 1.0)
    return {pair: p[pair] * scale if pair in p else 1 / len(pairs) for pair in pairs}


def _check_plan(
    at: str, shard: Shard, parent: str, knobs: Row, p: dict[str, float], bank: dict[str, str], found: Found
) -> None:
    """Eq. 3: what of a draw can be seen from outside."""
    always, drawable = knobs["always"], [pair for pair in p if pair not in knobs["always"]]
    drawn_from = {row.plan["snapshot_id"] for rows in shard.values() for row in rows}
    found.unless(
        current := drawn_from == {parent},
        f"{at}: drawn from snapshots {drawn_from}, not from {parent}",
    )
    for seed_id, rows in ((seed_id, [row.plan for row in joined]) for seed_id, joined in shard.items()):
        where, fixed, drawn = f"{at}: seed {seed_id}", rows[: len(always)], rows[len(always) :]
        right = [row["pair_id"] for row in fixed] == always and rows[0]["slot"] == 0
        found.unless(right, f"{where}: its first pairs are not {always} from slot 0")
        names, size = [row["pair_id"] for row in drawn], min(knobs["pairs_per_seed"], len(drawable))
        right = len(names) == size == len(set(names)) and set(names) <= set(drawable)
        found.unless(right, f"{where}: drew {names}, should be {size} distinct ones of {drawable}")
        near = rows[0]["neighbour_seed_ids"] or []
        for row in rows:
            pair, agents = row["pair_id"], f"{row['instruction_agent']}+{row['response_agent']}"
            origins = ("memory", "explore") if row in drawn else ("base", "seed" if pair == "seed" else "base")
            found.unless(row["origin"] in origins, f"{where}: {pair} has origin {row['origin']}")
            found.unless((row["neighbour_seed_ids"] or []) == near, f"{where}: rows with different neighbours")
            found.unless(pair in ("seed", agents), f"{where}: pair {pair} with agents {agents}")
            if current and (row in drawn or row["probability"] is not None):
                found.compare(f"{where} {pair}", row, probability=p.get(pair))
        found.unless(
            set(near) <= set(bank) and len(set(near)) == len(near),
            f"{where}: neighbours {near} repeat or were not in the bank",
        )
        size = min(knobs["neighbours"], len(bank))
        right = len(near) == size or (len(near) < size and not (knobs["all_live"] and knobs["from_memory"]))
        found.unless(right, f"{where}: {len(near)} neighbours, should be {size}")
        attached, memory = (
            [bank.get(seed) for seed in near],
            {row["pair_id"] for row in drawn if row["origin"] == "memory"},
        )
        right = rows[0].get("neighbour_pair_ids", attached) == attached
        found.unless(
            right, f"{where}: neighbour_pair_ids {rows[0].get('neighbour_pair_ids')}, `best` there were {attached}"
        )
        found.unless(memory <= set(attached), f"{where}: {memory} from memory, whose pairs are {attached}")
        cosines = rows[0].get("neighbour_similarities") if knobs["weighting"] == "similarity" else None
        cosines = [1.0] * len(near) if cosines is None else cosines
        found.unless(len(cosines) == len(near), f"{where}: {len(cosines)} similarities of {len(near)} neighbours")
        pool = {
            pair
            for pair, cosine in zip(attached, cosines, strict=False)
            if pair in drawable and p[pair] > 0 and cosine > 0
        }
        size = min(knobs["from_memory"], knobs["pairs_per_seed"], len(pool))
        found.unless(len(memory) == size or not current, f"{where}: {memory} from memory, should be {size} of {pool}")


def _check_candidates(at: str, shard: Shard, knobs: Row, found: Found) -> None:
    """Eq. 2's texts as far as they are known, and what the calls cost: a shared rewriting is booked on the lowest slot."""
    for rows in shard.values():
        seed = rows[0].seed
        rewritten: dict[str, str | None] = {"keep": seed["instruction"], "seed": seed["instruction"]}
        for row in (row.made for row in rows):
            where, (first, _, second) = f"{at}: {seed['seed_id']} {row['pair_id']}", row["pair_id"].partition("+")
            both, ok, cost = first not in rewritten, row["status"] == "ok", row["cost_usd"]
            right = (
                row["error"] is None
                if ok
                else row["status"] == "failed" and row["response"] is None and bool(row["error"])
            )
            found.unless(
                right, f"{where}: {row['status']} with error {row['error']!r} and response {row['response']!r}"
            )
            if ok:
                found.compare(where, row, instruction=rewritten.get(first) or row["instruction"])
                right = first == "seed" or (
                    bool(row["response"]) and (first == "keep" or row["instruction"] != seed["instruction"])
                )
                found.unless(right, f"{where}: ok, without a response or with a rewriting that echoes its input")
            rewritten[first] = rewritten.get(first) or row["instruction"]
            if first == "seed":
                found.compare(where, row, response=seed["response"], status="ok", prompt_tokens=0, completion_tokens=0)
            tokens = np.array([row["prompt_tokens"], row["completion_tokens"]])
            prices = (
                [knobs["prices"].get(agent) for agent in ([first, second] if both else [second])]
                if tokens.any()
                else [np.zeros(2)]
            )
            low, high = 0.0, math.inf  # where litellm's list decides; of two prices in one row the shares are not known
            if all(price is not None for price in prices):
                low, high = (float(tokens @ choose(np.stack(prices), axis=0)) for choose in (np.min, np.max))
            found.unless(
                low - 1e-9 <= cost <= high + 1e-9 and cost >= 0,
                f"{where}: cost_usd is {cost!r}, should be {low} to {high}",
            )
            found.unless(
                tokens.min() >= 0 and row["latency_s"] >= 0, f"{where}: tokens {tokens}, latency {row['latency_s']}"
            )


def _calibrated(rows: list[Joined], rule: str) -> dict[str, float]:
    """candidate_id → the difference of the mid-ranks of both IFDs, counted one against all."""

    def rank(value: float, among: list[float]) -> float:
        return (sum(other < value for other in among) + sum(other == value for other in among) / 2) / len(among)

    scored = [row.ifd for row in rows if row.ifd["gap"] is not None]
    lengths, count = [row["n_tokens_small"] for row in scored], max(1, min(5, len(scored) // 12))
    count = count if rule == "rank_by_length" else 1
    classes = [int(rank(row["n_tokens_small"], lengths) * count) for row in scored]
    gaps = {}
    for own, row in zip(classes, scored, strict=True):
        like = [other for other, place in zip(scored, classes, strict=True) if place == own]
        small, large = (rank(row[name], [other[name] for other in like]) for name in ("ifd_small", "ifd_large"))
        gaps[row["candidate_id"]] = small - large
    return gaps if rule != "none" else {}


def _check_judged(key: str, shard: Shard, knobs: Row, found: Found) -> None:
    """Eq. 5, 6, 7 and 1, on calibrated gaps where the configuration asks for them."""
    by_ranks = _calibrated([row for rows in shard.values() for row in rows], knobs["calibration"])

    def gap_of(row: Joined) -> float | None:
        return by_ranks.get(row.made["candidate_id"], row.ifd["gap"])

    def divisor(rows: list[Joined]) -> float:
        positive = [gap for row in rows if (gap := gap_of(row)) is not None and gap > 0]
        return float(np.quantile(positive, 0.95) if knobs["divisor"] == "p95" else max(positive)) if positive else 1.0

    whole = divisor([row for rows in shard.values() for row in rows])
    for seed_id, rows in shard.items():
        by, wanted = whole if knobs["divide_over"] == "shard" else divisor(rows), {}
        reference = (
            rows[0]
            if rows[0].made["status"] == "ok"
            else next((row for row in rows if row.plan["pair_id"] == "seed"), None)
        )
        for row in rows:
            at, gap = f"{seed_id} {row.plan['pair_id']}", gap_of(row)
            if "gap_calibrated" in row.ifd:
                found.compare(f"{key} ifd_scores: {at}", row.ifd, gap_calibrated=by_ranks.get(row.made["candidate_id"]))
            judged = row.made["status"] == "ok" and row is not reference
            right = bool(row.verdict) == judged or (judged and gap is None)
            found.unless(
                right, f"{key} judge_verdicts: {at}: has no verdict, or has one and is the reference or failed"
            )
            pi_llm = 0.5 if row is reference else None
            if judged and row.verdict:
                base = reference.made["candidate_id"] if reference is rows[0] else row.verdict["base_candidate_id"]
                pi_llm = _check_verdict(f"{key} judge_verdicts: {at}", row.verdict, gap, base, knobs, found)
            pi_dual = None if gap is None else min(1.0, max(gap, 0.0) / by)
            pi = None if pi_dual is None or pi_llm is None else pi_llm * pi_dual
            pi = 0.0 if gap is not None and row.verdict and row.verdict["verdict"] == "skipped" else pi
            new = {
                "pi_dual": pi_dual,
                "pi_llm": pi_llm,
                "pi": pi,
                "rank": None,
                "selected": False,
                "selection": None,
                "gap": row.ifd["gap"],
            }
            wanted[row.made["candidate_id"]] = {
                name: value for name, value in new.items() if name in row.score or name != "gap"
            }
        ranked = sorted(
            (-w["pi"], -(gap_of(row) or 0.0), c)
            for row, (c, w) in zip(rows, wanted.items(), strict=True)
            if w["pi"] is not None
        )
        for place, (_, _, candidate) in enumerate(ranked, 1):
            wanted[candidate]["rank"] = place
        if ranked and ranked[0][0] < 0:
            wanted[ranked[0][2]] |= {"selected": True, "selection": "best"}
        elif reference:
            fallback = f"fallback_{'base' if reference is rows[0] else 'seed'}"
            wanted[reference.made["candidate_id"]] |= {"selected": True, "selection": fallback}
        for row in rows:
            found.compare(
                f"{key} composite_scores: {seed_id} {row.plan['pair_id']}",
                row.score,
                **wanted[row.made["candidate_id"]],
            )


def _check_verdict(at: str, verdict: Row, gap: float | None, base: str, knobs: Row, found: Found) -> float | None:
    """Eq. 6: one verdict out of two orders, and its π_llm."""
    said, skip = verdict["verdict"], knobs["skip_nonpositive_gap"] and (gap is None or gap <= 0)
    pi_llm = {
        "better": 1.0,
        "worse": 0.0,
        "tie": 0.5,
        "inconsistent": 0.5 if knobs["on_reversal"] == "tie" else None,
    }.get(said)
    found.compare(at, verdict, base_candidate_id=base, flipped=said == "inconsistent", pi_llm=pi_llm)
    found.unless(skip == (said == "skipped"), f"{at}: {said} at gap {gap}")
    found.unless(
        said == "unparsed" or (said == "failed") == bool(verdict["error"]),
        f"{at}: {said} with error {verdict['error']!r}",
    )
    two = {verdict.get("verdict_first"), verdict.get("verdict_swapped")}
    if two <= {"better", "worse", "tie"}:
        found.compare(
            at, verdict, verdict=min(map(str, two)) if len(two) == 1 else "tie" if "tie" in two else "inconsistent"
        )
    else:
        found.unless(
            "verdict_first" not in verdict or said in ("skipped", "failed", "unparsed"), f"{at}: {said} from {two}"
        )
    found.unless(
        verdict["cost_usd"] >= 0 and not (verdict["cost_usd"] and skip), f"{at}: cost_usd is {verdict['cost_usd']}"
    )
    if (price := knobs["prices"].get(knobs["agent"])) is not None and "prompt_tokens" in verdict:
        found.compare(
            at, verdict, cost_usd=float(np.array([verdict["prompt_tokens"], verdict["completion_tokens"]]) @ price)
        )
    return pi_llm


def _chances(totals: dict[str, Any], knobs: Row) -> dict[str, float]:
    """How likely each pair's Beta(1 + pi, 1 + draws - pi), less what its draws cost on average, is the highest of all."""
    draws, cost = sum(t[0] for t in totals.values()), sum(t[2] for t in totals.values())
    off = {pair: knobs["cost_weight"] * (t[2] / t[0] if t[0] else cost / max(draws, 1)) for pair, t in totals.items()}
    # a draw weighs as many of 0 or 1 as it varies less than they do, ten of them added
    coins = sum(t[1] - t[1] ** 2 / t[0] for t in totals.values() if t[0]) / max(draws, 1)
    apart = sum(t[3] - t[1] ** 2 / t[0] for t in totals.values() if t[0]) + 10 * coins
    c = max(1.0, coins * (draws - sum(t[0] > 0 for t in totals.values()) + 10) / apart) if apart > 0 else 1.0
    beta = {pair: stats.beta(1 + c * t[1], 1 + c * (t[0] - t[1]), loc=-off[pair]) for pair, t in totals.items()}
    at = np.linspace(-max(off.values()), 1 - min(off.values()), 20_001)
    below = {pair: one.cdf(at) for pair, one in beta.items()}
    first = {
        pair: np.trapezoid(one.pdf(at) * np.prod([below[other] for other in beta if other != pair], axis=0), at)
        for pair, one in beta.items()
    }
    keep, floor = 1 - len(totals) * knobs["floor"], knobs["floor"]
    return {pair: keep * chance / sum(first.values()) + floor for pair, chance in first.items()}


def _check_snapshot(
    key: str, shard: Shard, snapshot: list[Row], knobs: Row, before: Row, parent: str | None, found: Found
) -> None:
    """Eq. 8, seed by seed, or the chances of Thompson sampling from all draws so far."""
    p, n, reward = dict(before), dict.fromkeys(before, 0), dict.fromkeys(before, 0.0)
    totals = knobs["totals"]
    for rows in shard.values():
        for row in rows:
            pair, pi = row.plan["pair_id"], row.score["pi"] or 0.0
            if row.plan["origin"] in ("memory", "explore") and pair in p:
                cost = row.made["cost_usd"]
                raised = max(p[pair] + knobs["rate"] * (pi - knobs["cost_weight"] * cost), 0.0)
                p[pair], n[pair], reward[pair] = raised, n[pair] + 1, reward[pair] + pi
                totals[pair] = totals.get(pair, np.zeros(4)) + np.array([1.0, pi, cost, pi * pi])
        total = sum(p.values())
        p = {pair: value / total for pair, value in p.items()}
    p = {pair: (1 - len(before) * knobs["floor"]) * value + knobs["floor"] for pair, value in p.items()}
    if knobs["method"] == "thompson":
        stored = {last["pair_id"]: last["probability"] for last in snapshot}
        chances = _chances({pair: totals.get(pair, np.zeros(4)) for pair in before}, knobs)
        odd = [pair for pair in before if abs(stored.get(pair, -1.0) - chances[pair]) > 2e-3]
        found.unless(not odd, f"{key} snapshot: the chances of {odd} in {stored} should be {chances}")
        p = {pair: stored.get(pair, chances[pair]) for pair in before}
    total = sum(last["probability"] for last in snapshot)
    found.unless(
        abs(total - 1) <= 1e-9 and len(snapshot) == len(p),
        f"{key} snapshot: probabilities sum to {total}, or a pair repeats",
    )
    for last in snapshot:
        at, pair, first = f"{key} agent_pair_probabilities: {last['pair_id']}", last["pair_id"], snapshot[0]
        found.compare(
            at,
            last,
            n_sampled=n[pair],
            reward=reward[pair],
            probability_before=before[pair],
            probability=p[pair],
            shard=key,
        )
        found.compare(
            at, last, snapshot_id=first["snapshot_id"], parent_snapshot_id=parent or first["parent_snapshot_id"]
        )


def _check_dataset(dataset: list[Row], joined: dict[str, Shard], live: set[str], found: Found) -> None:
    """The final data: one row a live seed, the selected candidate's."""
    data = {row["seed_id"]: row for row in dataset}
    expected = [(key, rows) for key, shard in joined.items() for seed_id, rows in shard.items() if seed_id in live]
    once = [row["seed_id"] for row in dataset] == [rows[0].seed["seed_id"] for _, rows in expected] and len(
        expected
    ) == len(live)
    found.unless(once, f"star_dataset: {len(dataset)} rows for {len(live)} live seeds, or in another order than theirs")
    for key, rows, seed in ((key, rows, rows[0].seed) for key, rows in expected):
        if row := data.get(seed["seed_id"]):
            picks = [{**seed, **pick.ifd, **pick.score, **pick.made} for pick in rows if pick.score["selected"]]
            pick = {**(picks[0] if picks else {**seed, "selection": "fallback_seed"}), "shard": key}
            turns = [("system", seed["system"]), *((turn["role"], turn["content"]) for turn in seed["history"] or [])]
            turns += [("user", pick["instruction"]), ("assistant", pick["response"])]
            pick["messages"] = [{"role": role, "content": text} for role, text in turns if text is not None]
            found.compare(
                f"star_dataset: seed {seed['seed_id']}", row, **{name: pick[name] for name in row if name in pick}
            )


def _prompt(template: str, seed: Row, instruction: str) -> str | None:
    """The text before the response; None where the design leaves it open (alpaca with a system prompt or history)."""
    turns = [*([seed["system"]] if seed["system"] else []), *(turn["content"] for turn in seed["history"] or [])]
    if template == "plain":
        return "".join(f"{text}\n" for text in [*turns, instruction])
    if template == "alpaca":
        return None if turns else ALPACA.format(instruction=instruction)
    raise ValueError(f"the oracle knows the templates plain and alpaca, not {template}")


def _load(folder: str, max_length: int) -> tuple[Any, Any, int, int]:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    return tokenizer, model, start, min(max_length, getattr(model.config, "max_position_embeddings", max_length))


def _nll(model: Any, before: list[int], response: list[int], skipped: int = 0) -> float:
    """The mean over the response's tokens but the first ``skipped``, in nats, from one pass over one sequence and its full logits."""
    import torch

    with torch.no_grad():
        logits = model(input_ids=torch.tensor([before + response])).logits[0].double()
    return float(
        -torch.log_softmax(logits[len(before) - 1 : -1], -1)[torch.arange(len(response)), torch.tensor(response)][
            skipped:
        ].mean()
    )


def _check_scores(joined: dict[str, Shard], knobs: Row, ifd_rows: int | None, found: Found) -> None:
    """Eq. 4: statuses, token counts and gaps of all rows, losses and IFD of ``ifd_rows`` of them, evenly spaced."""
    named = {size: given if isinstance(given := knobs[size], dict) else {"model": given} for size in ("small", "large")}
    models = {size: _load(given["model"], knobs["max_length"]) for size, given in named.items()}
    skipped = int(knobs["start"] == "skip_first")
    scored: list[list[tuple[str, Row, str, list[int], list[int], list[int]]]] = []
    for key, shard in joined.items():
        for seed, row, score in ((row.seed, row.made, row.ifd) for rows in shard.values() for row in rows):
            where, cut = f"{key} ifd_scores: {row['seed_id']} {row['pair_id']}", False
            ids, ends = {}, {}  # ends: where in the text each response token ends
            status = (
                "no_candidate" if row["status"] == "failed" else "ok" if row["response"].strip() else "empty_response"
            )
            prompts = {
                size: _prompt(given.get("template", knobs["template"]), seed, row["instruction"])
                if status == "ok"
                else None
                for size, given in named.items()
            }
            if status == "ok" and None in prompts.values():
                continue
            for size, (tokenizer, _, start, limit) in models.items() if status == "ok" else ():
                newline = tokenizer("\n", add_special_tokens=False)["input_ids"] if knobs["start"] == "newline" else []
                first, before = [start, *newline], tokenizer(prompts[size], add_special_tokens=False)["input_ids"]
                coded = tokenizer(row["response"], add_special_tokens=False, return_offsets_mapping=True)
                room = max(limit - len(first) - len(before), 0)
                cut = cut or room < len(coded["input_ids"])
                status = status if room > skipped else "prompt_too_long"
                ids[size], ends[size] = (
                    (first, [*first, *before], coded["input_ids"][:room]),
                    [end for _, end in coded["offset_mapping"]][:room],
                )
            if status == "ok" and min(len(response) for *_, response in ids.values()) <= skipped:
                status = "too_short"
            values = [name for name in score if name.startswith(("n_tokens", "nll", "ifd"))]
            if status != "ok" or any(score[name] is None for name in values):
                found.compare(where, score, status=status, truncated=cut and status == "ok", **dict.fromkeys(values))
                found.unless(status != "ok", f"{where}: a value is null")
                continue
            counts = [score["n_tokens_small"], score["n_tokens_large"]]
            gap = score["ifd_small"] - score["ifd_large"] if min(counts) >= knobs["least_tokens"] else None
            found.compare(where, score, status="too_short" if gap is None else "ok", truncated=cut, gap=gap)
            scored.append([])
            for size, (first, before, response) in ids.items():
                kept = [
                    token
                    for token, end in zip(response, ends[size], strict=True)
                    if end <= min(e[-1] for e in ends.values())
                ]
                ratio = math.exp(score[f"nll_given_{size}"] - score[f"nll_alone_{size}"])
                found.compare(where, score, **{f"n_tokens_{size}": len(kept) - skipped, f"ifd_{size}": ratio})
                scored[-1].append((where, score, size, first, before, kept))
    found.tolerance = 1e-4
    count = min(len(scored), len(scored) if ifd_rows is None else ifd_rows)
    for where, score, size, first, before, kept in (
        pass_ for i in np.linspace(0, len(scored) - 1, count).astype(int) for pass_ in scored[i]
    ):
        a, b = (_nll(models[size][1], head, kept, skipped) for head in (before, first))
        found.compare(where, score, **{f"nll_given_{size}": a, f"nll_alone_{size}": b, f"ifd_{size}": math.exp(a - b)})
