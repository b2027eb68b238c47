"""An independent check of a finished lake: everything that follows from its tables is computed again, plainly and slowly.

Written from the design alone; nothing of star_pipeline is imported. The config must be the one that made the whole lake.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml

Row = dict[str, Any]
EXACT, MODEL = 1e-9, 1e-4
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
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)


def disagreements(lake: Path, config: Path, ifd_rows: int | None = None) -> list[str]:
    """Every value of the lake's tables that differs from the design's, one readable line each; [] where all agree.

    ``ifd_rows`` limits how many candidates pass through the models again; token counts and statuses are checked for all.
    """
    knobs = _knobs(yaml.safe_load(config.read_text()))
    shards, found = _read(lake)
    if found:
        return found
    for key in shards:
        found += [f"{key}: {line}" for line in _check_alignment(shards[key])]
    if found:
        return found  # what follows pairs the tables row by row
    ids = Counter(row["candidate_id"] for tables in shards.values() for row in tables["candidates"])
    found += [f"candidates: {n} rows in the lake have candidate_id {i}" for i, n in ids.items() if n > 1]
    catalog = pq.read_table(lake / "tables/seed_catalog.parquet").to_pylist()
    live = [row["seed_id"] for row in catalog if row["live"]]
    found += [f"seed_catalog: seed {i} is live {n} times" for i, n in Counter(live).items() if n > 1]
    bank: dict[str, str] = {}  # seed_id -> the pair of its `best` row, of the shards before
    prior: Row = {"id": None, "p": {pair: 1 / len(knobs["sampled"]) for pair in knobs["sampled"]}}
    for key, tables in shards.items():
        prior["p"] = _adapt(prior["p"], [row["pair_id"] for row in tables["agent_pair_probabilities"]])
        lines = [*_check_plan(tables, knobs, prior, bank, every_seed_is_live=all(row["live"] for row in catalog))]
        lines += [*_check_candidates(tables, knobs), *_check_judge(tables, knobs), *_check_composite(tables, knobs)]
        lines += [*_check_snapshot(key, tables, knobs, prior)]
        found += [f"{key}: {line}" for line in lines]
        bank |= {
            row["seed_id"]: row["pair_id"]
            for row in tables["composite_scores"]
            if row["selection"] == "best" and row["pi"] >= knobs["min_pi"]
        }
        snapshot = tables["agent_pair_probabilities"]
        prior = {"id": snapshot[0]["snapshot_id"], "p": {row["pair_id"]: row["probability"] for row in snapshot}}
    if set(prior["p"]) != set(knobs["sampled"]):
        found.append(f"the last snapshot's pairs are {sorted(prior['p'])}, the config's {sorted(knobs['sampled'])}")
    found += _check_dataset(lake, shards, set(live))
    return found + [*_check_scores(shards, knobs, ifd_rows)]


def _knobs(config: Row) -> Row:
    """The config flattened, with the defaults of the design."""
    pairs, agents = config["pairs"], config["agents"]
    grid = pairs.get("sampled", pairs)
    if isinstance(grid, dict):
        grid = [f"{i}+{r}" for i in grid["instruction"] for r in grid["response"]]

    def price(agent: str) -> tuple[float, float] | None:
        """USD per prompt and completion token; None where only litellm's own list would know."""
        stated = agents.get(agent, {})
        if agent in ("keep", "seed", None) or stated.get("model", "").startswith(("hosted_vllm/", "offline/")):
            return (stated.get("input_cost_per_token") or 0.0, stated.get("output_cost_per_token") or 0.0)
        if "input_cost_per_token" in stated and "output_cost_per_token" in stated:
            return (stated["input_cost_per_token"], stated["output_cost_per_token"])
        return None

    defaults: dict[str, Row] = {
        "sampling": {"pairs_per_seed": 3, "from_memory": 1},
        "scoring": {"template": "alpaca", "max_length": 2048, "divisor": "p95", "divide_over": "shard"},
        "judge": {"agent": None, "on_reversal": "tie", "skip_nonpositive_gap": True},
        "evolution": {"rate": 0.001, "floor": 0.0},
        "memory": {"neighbours": 10, "min_pi": 0.0, "weighting": "similarity"},
    }
    flat: Row = {
        "sampled": grid,
        "base": pairs["base"],
        "include_seed": pairs.get("include_seed", True),
        "price": price,
    }
    for section, values in defaults.items():
        flat |= values | (config.get(section) or {})
    return flat


def _read(lake: Path) -> tuple[dict[str, dict[str, list[Row]]], list[str]]:
    """{shard: {table: rows}} in shard order, and what is missing."""
    shards: dict[str, dict[str, list[Row]]] = {}
    missing = []
    for key in sorted(path.stem for path in (lake / "tables/seed_shards").glob("*.parquet")):
        shards[key] = {}
        for table in COLUMNS.keys() - {"star_dataset"}:
            path = lake / "tables" / table / f"{key}.parquet"
            if not path.exists():
                missing.append(f"{key}: there is no table {table}")
                continue
            data = pq.read_table(path)
            absent = set(COLUMNS[table].split()) - set(data.column_names)
            missing += [f"{key}: {table} has no column {name}" for name in sorted(absent)]
            shards[key][table] = data.to_pylist()
    return shards, missing


def _same(a: Any, b: Any, tolerance: float = EXACT) -> bool:
    """Both null, or equal; numbers within the relative tolerance (absolute below 1)."""
    if isinstance(a, float | int) and isinstance(b, float | int) and not isinstance(a, bool):
        return math.isfinite(a) and math.isfinite(b) and abs(a - b) <= tolerance * max(1.0, abs(b))
    return bool(a == b)


def _compare(where: str, row: Row, wanted: Row) -> Iterator[str]:
    for name, value in wanted.items():
        if not _same(row[name], value):
            yield f"{where}: {name} is {row[name]!r}, should be {value!r}"


def _by_seed(rows: list[Row]) -> dict[str, list[Row]]:
    seeds: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        seeds[row["seed_id"]].append(row)
    return seeds


def _name(row: Row) -> str:
    return f"seed {row['seed_id']} slot {row['slot']} ({row['pair_id']})"


def _check_alignment(tables: dict[str, list[Row]]) -> Iterator[str]:
    """A row for every plan row, in the same order; seeds in seed_shards' order, slots rising from 0."""
    plan, order = tables["sampling_plan"], [row["seed_id"] for row in tables["seed_shards"]]
    if len(set(order)) != len(order):
        yield "seed_shards: a seed_id occurs twice"
    if list(dict.fromkeys(row["seed_id"] for row in plan)) != order:
        yield "sampling_plan: its seeds are not those of seed_shards in their order"
    for other in ("candidates", "ifd_scores", "composite_scores"):
        rows = tables[other]
        if len(rows) != len(plan):
            yield f"{other}: {len(rows)} rows for {len(plan)} of the plan"
            continue
        for i, (row, planned, candidate) in enumerate(zip(rows, plan, tables["candidates"], strict=False)):
            keys = [name for name in ("seed_id", "slot", "pair_id") if name in row]
            if [row[k] for k in keys] != [planned[k] for k in keys] or row["candidate_id"] != candidate["candidate_id"]:
                yield f"{other}: row {i} is not the plan's row {i}"
    sequence = [(order.index(row["seed_id"]), row["slot"]) for row in plan if row["seed_id"] in order]
    if any(b <= a for a, b in zip(sequence, sequence[1:], strict=False)):
        yield "sampling_plan: rows are not sorted by seed order and slot, or a slot occurs twice"


def _adapt(p: dict[str, float], pairs: list[str]) -> dict[str, float]:
    """Eq. 8's last sentence: removed pairs' share in proportion to the others, new ones at 1/K with the others scaled."""
    kept = {pair: p[pair] for pair in pairs if pair in p}
    if not kept:
        return {pair: 1 / len(pairs) for pair in pairs}
    new = len(pairs) - len(kept)
    if not new and len(kept) == len(p):
        return kept
    scale = (1 - new / len(pairs)) / sum(kept.values())
    return {pair: kept[pair] * scale if pair in kept else 1 / len(pairs) for pair in pairs}


def _check_plan(
    tables: dict[str, list[Row]], knobs: Row, prior: Row, bank: dict[str, str], every_seed_is_live: bool
) -> Iterator[str]:
    """Eq. 3: what of a draw can be seen from outside."""
    always = [*knobs["base"], *(["seed"] if knobs["include_seed"] and "seed" not in knobs["base"] else [])]
    drawable = [pair for pair in prior["p"] if pair not in always]
    drawn_from = {row["snapshot_id"] for row in tables["sampling_plan"]}
    current = drawn_from == {tables["agent_pair_probabilities"][0]["parent_snapshot_id"]}
    if not current:
        yield f"sampling_plan: drawn from snapshot {sorted(drawn_from)}, which is not this shard's parent snapshot"
    for seed_id, rows in _by_seed(tables["sampling_plan"]).items():
        where = f"sampling_plan: seed {seed_id}"
        pairs, drawn = [row["pair_id"] for row in rows], rows[len(always) :]
        names = [row["pair_id"] for row in drawn]
        if rows[0]["slot"] != 0 or pairs[: len(always)] != always:
            yield f"{where}: its first pairs are {pairs[: len(always)]}, should be {always} from slot 0"
        for row in rows[: len(always)]:
            if row["origin"] != "base" and not (row["pair_id"] == "seed" and row["origin"] == "seed"):
                yield f"{where}: {row['pair_id']} has origin {row['origin']}"
        if len(set(names)) != len(names) or len(names) != min(knobs["pairs_per_seed"], len(drawable)):
            yield f"{where}: drew {names}, should be {min(knobs['pairs_per_seed'], len(drawable))} distinct pairs"
        if set(names) - set(drawable):
            yield f"{where}: drew {sorted(set(names) - set(drawable))}, not to be drawn"
        neighbours = rows[0]["neighbour_seed_ids"] or []
        if any((row["neighbour_seed_ids"] or []) != neighbours for row in rows):
            yield f"{where}: its rows differ in their neighbours"
        strangers = [n for n in neighbours if n not in bank]
        if strangers or len(set(neighbours)) != len(neighbours):
            yield f"{where}: neighbours {strangers or neighbours} were not in the bank before this shard, or repeat"
        wanted = min(knobs["neighbours"], len(bank)) if knobs["from_memory"] else 0
        if len(neighbours) > knobs["neighbours"] or (
            knobs["from_memory"] and every_seed_is_live and len(neighbours) != wanted
        ):
            yield f"{where}: {len(neighbours)} neighbours, should be {wanted}"
        attached = [bank.get(n) for n in neighbours]
        if "neighbour_pair_ids" in rows[0] and (rows[0]["neighbour_pair_ids"] or []) != attached:
            yield f"{where}: neighbour_pair_ids {rows[0]['neighbour_pair_ids']}, selected there were {attached}"
        memory = [row["pair_id"] for row in drawn if row["origin"] == "memory"]
        if set(memory) - set(attached):
            yield f"{where}: {sorted(set(memory) - set(attached))} is said to be from memory, no neighbour's pair"
        weights = {pair: prior["p"].get(pair, 0.0) for pair in attached if pair in drawable}
        similar = rows[0].get("neighbour_similarities")
        if similar is not None and knobs["weighting"] == "similarity":
            sums: dict[Any, float] = Counter()
            for pair, cosine in zip(attached, similar, strict=False):
                sums[pair] += max(cosine, 0.0)
            weights = {pair: weight * sums[pair] for pair, weight in weights.items()}
        pool = min(knobs["from_memory"], sum(weight > 0 for weight in weights.values()))
        if current and len(memory) != pool:
            yield f"{where}: {len(memory)} pairs from memory, should be {pool}"
        for row in rows:
            agents = f"{row['instruction_agent']}+{row['response_agent']}"
            if row["pair_id"] not in ("seed", agents):
                yield f"{where}: pair {row['pair_id']} with agents {agents}"
            if row in drawn and row["origin"] not in ("memory", "explore"):
                yield f"{where}: drawn pair {row['pair_id']} has origin {row['origin']}"
            if row in drawn and current and not _same(row["probability"], prior["p"].get(row["pair_id"])):
                yield f"{where}: {row['pair_id']} has probability {row['probability']}, not {prior['p'].get(row['pair_id'])}"


def _check_candidates(tables: dict[str, list[Row]], knobs: Row) -> Iterator[str]:
    """Eq. 2's texts as far as they are known, and what the calls cost."""
    seeds = {row["seed_id"]: row for row in tables["seed_shards"]}
    for seed_id, rows in _by_seed(tables["candidates"]).items():
        rewritten: dict[str, Any] = {}
        for row in rows:
            where = f"candidates: {_name(row)}"
            first, _, second = row["pair_id"].partition("+")
            lowest, seed = first not in rewritten, seeds[seed_id]
            if row["status"] not in ("ok", "failed") or (row["status"] == "failed") != bool(row["error"]):
                yield f"{where}: status {row['status']} with error {row['error']!r}"
            if row["status"] == "ok":
                shared = rewritten.get(first, row["instruction"])
                wanted = seed["instruction"] if first in ("keep", "seed") else shared
                yield from _compare(where, row, {"instruction": wanted})
                if first not in ("keep", "seed") and wanted == seed["instruction"]:
                    yield f"{where}: the rewritten instruction is the seed's"
                if not row["response"] and first != "seed":
                    yield f"{where}: ok with an empty response"
            elif row["response"] is not None:
                yield f"{where}: failed, with a response"
            if lowest or rewritten[first] is None:
                rewritten[first] = row["instruction"]
            if first == "seed":
                yield from _compare(where, row, {"response": seed["response"], "status": "ok"})
            tokens = np.array([row["prompt_tokens"] or 0, row["completion_tokens"] or 0])
            if row["cost_usd"] is None or row["cost_usd"] < 0 or (tokens < 0).any() or row["latency_s"] < 0:
                yield f"{where}: cost {row['cost_usd']}, tokens {tokens}, latency {row['latency_s']}: negative or null"
                continue
            if first == "seed" and tokens.any():
                yield f"{where}: tokens {tokens} where nothing was called"
            prices = [
                knobs["price"](agent)
                for agent in ((first, second) if lowest and first not in ("keep", "seed") else (second,))
            ]
            if first == "seed" or not tokens.any():
                prices = [(0.0, 0.0)]
            if None not in prices:  # where two prices meet in a row, the share of each is not known
                low, high = (float(tokens @ choose(prices, axis=0)) for choose in (np.min, np.max))
                if not low - EXACT <= row["cost_usd"] <= high + EXACT:
                    yield f"{where}: cost_usd is {row['cost_usd']}, should be {low} to {high}"


def _reference(rows: list[Row]) -> Row | None:
    """The candidate that the judge compares with: slot 0, and where its generation failed, the seed's own."""
    if rows[0]["status"] == "ok":
        return rows[0]
    return next((row for row in rows if row["pair_id"] == "seed"), None)


def _pi_llm(verdict: Row | None, knobs: Row) -> float | None:
    """Eq. 6 of a stated verdict."""
    values = {"better": 1.0, "worse": 0.0, "tie": 0.5, "inconsistent": 0.5 if knobs["on_reversal"] == "tie" else None}
    return values.get(verdict["verdict"]) if verdict else None


def _check_judge(tables: dict[str, list[Row]], knobs: Row) -> Iterator[str]:
    """Eq. 6: who is judged, and the verdict of two orders."""
    verdicts = {row["candidate_id"]: row for row in tables["judge_verdicts"]}
    gaps = {row["candidate_id"]: row["gap"] for row in tables["ifd_scores"]}
    order = [row["candidate_id"] for row in tables["candidates"] if row["candidate_id"] in verdicts]
    if order != [row["candidate_id"] for row in tables["judge_verdicts"]]:
        yield "judge_verdicts: rows that are not candidates, repeat, or stand in another order"
    for rows in _by_seed(tables["candidates"]).values():
        reference = _reference(rows)
        for row in rows:
            where, verdict, gap = (
                f"judge_verdicts: {_name(row)}",
                verdicts.get(row["candidate_id"]),
                gaps[row["candidate_id"]],
            )
            if row["status"] == "failed" or row is reference:
                if verdict:
                    yield f"{where}: has a verdict, and is the reference or failed"
                continue
            if verdict is None:
                if gap is not None:
                    yield f"{where}: has no verdict row"
                continue
            if reference and rows[0]["status"] == "ok" and verdict["base_candidate_id"] != reference["candidate_id"]:
                yield f"{where}: judged against {verdict['base_candidate_id']}, should be {reference['candidate_id']}"
            said, two = verdict["verdict"], {verdict.get("verdict_first"), verdict.get("verdict_swapped")}
            skipped = knobs["skip_nonpositive_gap"] and (gap is None or gap <= 0)
            if skipped != (said == "skipped"):
                yield f"{where}: verdict {said} at gap {gap}"
            if two <= {"better", "worse", "tie"}:
                wanted = two.pop() if len(two) == 1 else "tie" if "tie" in two else "inconsistent"
                yield from _compare(where, verdict, {"verdict": wanted})
            elif "verdict_first" in verdict and said not in ("skipped", "failed", "unparsed"):
                yield f"{where}: verdict {said} from {two}"
            yield from _compare(where, verdict, {"flipped": said == "inconsistent", "pi_llm": _pi_llm(verdict, knobs)})
            if said == "failed" and not verdict["error"]:
                yield f"{where}: failed without an error"
            price = knobs["price"](knobs["agent"])
            cost = verdict["cost_usd"]
            if cost is None or cost < 0 or (said == "skipped" and cost):
                yield f"{where}: cost {cost}"
            elif price and "prompt_tokens" in verdict:
                wanted = verdict["prompt_tokens"] * price[0] + verdict["completion_tokens"] * price[1]
                yield from _compare(where, verdict, {"cost_usd": wanted})


def _check_composite(tables: dict[str, list[Row]], knobs: Row) -> Iterator[str]:
    """Eq. 5, 7 and 1."""
    verdicts = {row["candidate_id"]: row for row in tables["judge_verdicts"]}
    gaps = {row["candidate_id"]: row["gap"] for row in tables["ifd_scores"]}
    scores = {row["candidate_id"]: row for row in tables["composite_scores"]}

    def divisor(over: list[float | None]) -> float:
        positive = [gap for gap in over if gap is not None and gap > 0]
        if not positive:
            return 1.0
        return float(np.quantile(positive, 0.95)) if knobs["divisor"] == "p95" else max(positive)

    whole = divisor(list(gaps.values()))
    for rows in _by_seed(tables["candidates"]).values():
        by = whole if knobs["divide_over"] == "shard" else divisor([gaps[row["candidate_id"]] for row in rows])
        reference, wanted = _reference(rows), {}
        for row in rows:
            key = row["candidate_id"]
            verdict, gap = verdicts.get(key), gaps[key]
            pi_llm = 0.5 if row is reference else _pi_llm(verdict, knobs)
            pi_dual = None if gap is None else min(1.0, max(gap, 0.0) / by)
            pi = None if pi_dual is None or pi_llm is None else pi_llm * pi_dual
            if verdict and verdict["verdict"] == "skipped" and gap is not None:
                pi = 0.0
            wanted[key] = {
                "pi_dual": pi_dual,
                "pi_llm": pi_llm,
                "pi": pi,
                "rank": None,
                "selected": False,
                "selection": None,
            }
            wanted[key] |= {"gap": gap} if "gap" in scores[key] else {}
        ranked = sorted(
            (key for key in wanted if wanted[key]["pi"] is not None),
            key=lambda k: (-wanted[k]["pi"], -gaps[k], k),  # type: ignore[operator]
        )
        for place, key in enumerate(ranked, 1):
            wanted[key]["rank"] = place
        if ranked and wanted[ranked[0]]["pi"] > 0:
            wanted[ranked[0]] |= {"selected": True, "selection": "best"}
        elif reference is rows[0]:
            wanted[rows[0]["candidate_id"]] |= {"selected": True, "selection": "fallback_base"}
        elif reference:
            wanted[reference["candidate_id"]] |= {"selected": True, "selection": "fallback_seed"}
        for row in rows:
            yield from _compare(
                f"composite_scores: {_name(row)}", scores[row["candidate_id"]], wanted[row["candidate_id"]]
            )


def _check_snapshot(key: str, tables: dict[str, list[Row]], knobs: Row, prior: Row) -> Iterator[str]:
    """Eq. 8, seed by seed."""
    before: dict[str, float] = prior["p"]
    p, n, reward = dict(before), dict.fromkeys(before, 0), dict.fromkeys(before, 0.0)
    rows = list(zip(tables["sampling_plan"], tables["composite_scores"], strict=True))
    for seed in tables["seed_shards"]:
        for plan, score in rows:
            if plan["seed_id"] == seed["seed_id"] and plan["origin"] in ("memory", "explore") and plan["pair_id"] in p:
                pair, pi = plan["pair_id"], score["pi"] or 0.0
                p[pair], n[pair], reward[pair] = p[pair] + knobs["rate"] * pi, n[pair] + 1, reward[pair] + pi
        total = sum(p.values())
        p = {pair: value / total for pair, value in p.items()}
    floor, size = knobs["floor"], len(p)
    if floor > 0:
        p = {pair: (1 - size * floor) * value + floor for pair, value in p.items()}
    snapshot = tables["agent_pair_probabilities"]
    if len({(row["snapshot_id"], row["parent_snapshot_id"]) for row in snapshot}) != 1 or len(p) != len(snapshot):
        yield "agent_pair_probabilities: several ids, or a pair twice"
    if abs(sum(row["probability"] for row in snapshot) - 1) > EXACT:
        yield f"agent_pair_probabilities: they sum to {sum(row['probability'] for row in snapshot)}"
    for row in snapshot:
        pair = row["pair_id"]
        wanted = {
            "shard": key,
            "n_sampled": n[pair],
            "reward": reward[pair],
            "probability_before": before[pair],
            "probability": p[pair],
        }
        if prior["id"] is not None:
            wanted["parent_snapshot_id"] = prior["id"]
        yield from _compare(f"agent_pair_probabilities: {pair}", row, wanted)


def _check_dataset(lake: Path, shards: dict[str, dict[str, list[Row]]], live: set[str]) -> Iterator[str]:
    """The final data: one row a live seed, the selected candidate's."""
    data = pq.read_table(lake / "star_dataset/star_dataset.parquet")
    absent = set(COLUMNS["star_dataset"].split()) - set(data.column_names)
    if absent:
        yield f"star_dataset: has no columns {sorted(absent)}"
        return
    rows = {row["seed_id"]: row for row in data.to_pylist()}
    expected = [
        (key, seed) for key, tables in shards.items() for seed in tables["seed_shards"] if seed["seed_id"] in live
    ]
    if data["seed_id"].to_pylist() != [seed["seed_id"] for _, seed in expected] or len(expected) != len(live):
        yield f"star_dataset: {data.num_rows} rows for {len(live)} live seeds, or in another order than the seeds'"
    chosen: dict[tuple[str, str], Row] = {}
    for key, tables in shards.items():
        columns = zip(tables["candidates"], tables["ifd_scores"], tables["composite_scores"], strict=True)
        chosen |= {(key, c["seed_id"]): {**i, **s, **c} for c, i, s in columns if s["selected"]}
    for key, seed in expected:
        row, pick = rows.get(seed["seed_id"]), chosen.get((key, seed["seed_id"]))
        if row is None:
            yield f"star_dataset: seed {seed['seed_id']} has no row"
            continue
        wanted = {"shard": key, "source": seed["source"], "selection": "fallback_seed"}
        wanted |= {name: seed[name] for name in ("instruction", "response")}
        if pick:
            names = "instruction response pair_id pi pi_dual pi_llm ifd_small ifd_large gap selection"
            wanted |= {name: pick[name] for name in names.split()}
        system = [{"role": "system", "content": seed["system"]}] if seed["system"] else []
        turns = [
            {"role": role, "content": wanted[name]}
            for role, name in (("user", "instruction"), ("assistant", "response"))
        ]
        wanted["messages"] = [*system, *(seed["history"] or []), *turns]
        yield from _compare(f"star_dataset: seed {seed['seed_id']}", row, wanted)


def _prompt(template: str, seed: Row, instruction: str) -> str | None:
    """The text before the response; None where the design leaves it open (alpaca with a system prompt or history)."""
    if template == "plain":
        before = [*([seed["system"]] if seed["system"] else []), *(turn["content"] for turn in seed["history"] or [])]
        return "".join(f"{text}\n" for text in [*before, instruction])
    if template == "alpaca":
        return None if seed["system"] or seed["history"] else ALPACA.format(instruction=instruction)
    raise ValueError(f"the oracle knows the templates plain and alpaca, not {template}")


def _load(folder: str, max_length: int) -> Row:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    context = getattr(model.config, "max_position_embeddings", None) or max_length
    return {"tokenizer": tokenizer, "model": model, "start": start, "limit": min(max_length, context)}


def _nll(model: Any, before: list[int], response: list[int]) -> float:
    """The mean, in nats, over the response's tokens, from one pass over one sequence and its full logits."""
    import torch

    with torch.no_grad():
        logits = model(input_ids=torch.tensor([before + response])).logits[0].double()
    at = torch.arange(len(before) - 1, len(before) + len(response) - 1)
    return float(-torch.log_softmax(logits, -1)[at, torch.tensor(response)].mean())


def _check_scores(shards: dict[str, dict[str, list[Row]]], knobs: Row, ifd_rows: int | None) -> Iterator[str]:
    """Eq. 4: statuses and token counts of all rows, losses and IFD of ``ifd_rows``, evenly spaced."""
    models = {size: _load(knobs[size], knobs["max_length"]) for size in ("small", "large")}
    waiting: list[Callable[[], Iterator[str]]] = []
    for key, tables in shards.items():
        seeds = {row["seed_id"]: row for row in tables["seed_shards"]}
        for row, score in zip(tables["candidates"], tables["ifd_scores"], strict=True):
            where, seed = f"{key}: ifd_scores: {_name(row)}", seeds[row["seed_id"]]
            ids: dict[str, tuple[list[int], list[int]]] = {}
            status, cut = "ok", False
            prompt = None if row["status"] == "failed" else _prompt(knobs["template"], seed, row["instruction"])
            if row["status"] == "failed":
                status = "no_candidate"
            elif not row["response"].strip():
                status = "empty_response"
            elif prompt is None:
                continue
            else:
                ends: list[tuple[str, list[int], int]] = []
                for size, m in models.items():
                    before = m["tokenizer"](prompt, add_special_tokens=False)["input_ids"]
                    coded = m["tokenizer"](row["response"], add_special_tokens=False, return_offsets_mapping=True)
                    room = m["limit"] - 1 - len(before)
                    status = "prompt_too_long" if room < 1 else status
                    cut = cut or room < len(coded["input_ids"])
                    ids[size] = ([m["start"], *before], coded["input_ids"][: max(room, 0)])
                    ends.append((size, [end for _, end in coded["offset_mapping"]], max(room, 0)))
                if status == "ok" and cut:
                    shared = min(end[:room][-1] for _, end, room in ends)
                    for size, end, room in ends:
                        kept = sum(1 for e in end[:room] if e <= shared)
                        ids[size] = (ids[size][0], ids[size][1][:kept])
            names = [f"{n}_{size}" for size in models for n in ("n_tokens", "nll_given", "nll_alone", "ifd")]
            if status != "ok":
                wanted = {"status": status, "truncated": False, "gap": None} | dict.fromkeys(names)
                yield from _compare(where, score, wanted)
                continue
            yield from _compare(where, score, {"status": "ok", "truncated": cut})
            if any(score[name] is None for name in [*names, "gap"]):
                yield f"{where}: a value is null"
                continue
            yield from _compare(where, score, {"gap": score["ifd_small"] - score["ifd_large"]})
            for size, (_, response) in ids.items():
                ratio = math.exp(score[f"nll_given_{size}"] - score[f"nll_alone_{size}"])
                yield from _compare(where, score, {f"n_tokens_{size}": len(response), f"ifd_{size}": ratio})
            waiting.append(lambda where=where, score=score, ids=ids: _rescore(where, score, ids, models))  # type: ignore[misc]
    picks = (
        range(len(waiting))
        if ifd_rows is None
        else np.linspace(0, len(waiting) - 1, min(ifd_rows, len(waiting))).astype(int)
    )
    for i in picks:
        yield from waiting[i]()


def _rescore(
    where: str, score: Row, ids: dict[str, tuple[list[int], list[int]]], models: dict[str, Row]
) -> Iterator[str]:
    for size, (before, response) in ids.items():
        given, alone = (_nll(models[size]["model"], head, response) for head in (before, before[:1]))
        for name, value in (("nll_given", given), ("nll_alone", alone), ("ifd", math.exp(given - alone))):
            stored = score[f"{name}_{size}"]
            if not abs(stored - value) <= MODEL * abs(value):
                yield f"{where}: {name}_{size} is {stored}, should be {value}"
