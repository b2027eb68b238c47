"""The queries on cost, against the Parquet files in plain Python."""

import math
from collections import defaultdict

import numpy as np
import pytest

from star_pipeline_tests.inspection.plainly import groups, same, values

COSTS = ("requests", "prompt_tokens", "completion_tokens", "cost_usd")


@pytest.fixture(scope="module")
def paid(rows):
    """(shard, stage, agent, pair) -> requests, tokens sent and received, USD."""
    found = defaultdict(lambda: np.zeros(4))
    for row in rows:
        plan, made, verdict = row["plan"], row["candidates"], row["judge_verdicts"]
        whole = np.array([made[name] for name in ("attempts", "prompt_tokens", "completion_tokens", "cost_usd")])
        rewriting = np.array(
            [made[f"rewrite_{name}"] for name in ("attempts", "prompt_tokens", "completion_tokens", "cost_usd")]
        )
        if plan["instruction_agent"] != "keep":
            found[plan["shard"], "rewrite", plan["instruction_agent"], row["pair"]] += rewriting
        if plan["response_agent"] != "seed":
            found[plan["shard"], "respond", plan["response_agent"], row["pair"]] += whole - rewriting
        if verdict and verdict["judge_agent"]:
            booked = [verdict[name] for name in ("attempts", "prompt_tokens", "completion_tokens", "cost_usd")]
            found[plan["shard"], "judge", verdict["judge_agent"], row["pair"]] += booked
    return dict(found)


def summed(paid, key):
    found = defaultdict(lambda: np.zeros(4))
    for place, amounts in paid.items():
        found[key(*place)] += amounts
    return {place: dict(zip(COSTS, amounts.tolist(), strict=True)) for place, amounts in found.items()}


def test_costs_by_shard_stage_agent_and_pair_and_their_sums(ask, paid):
    def found(name, *keys):
        return {tuple(row[key] for key in keys): {column: row[column] for column in COSTS} for row in ask(name)}

    def near(expected):
        return {place: pytest.approx(amounts, rel=1e-9, abs=1e-12) for place, amounts in expected.items()}

    assert found("costs", "shard", "stage", "agent", "pair_id") == near(summed(paid, lambda *place: place))
    # under names that others have taken over
    assert found("cost", "stage", "agent", "pair_id") == near(summed(paid, lambda shard, *rest: tuple(rest)))
    assert found("cost_per_agent", "agent", "stage") == near(
        summed(paid, lambda shard, stage, agent, pair: (agent, stage))
    )
    assert math.fsum(row["share"] for row in ask("cost_per_agent")) == pytest.approx(1)


def test_what_a_selected_row_costs_counts_the_pairs_verdicts_in(ask, paid, tables):
    chosen = tables["star_dataset"]["pair_id"].value_counts().to_dict()
    of_pair = summed(paid, lambda shard, stage, agent, pair: (pair, stage == "judge"))
    nothing = {"cost_usd": 0.0}
    expected = []
    for pair in {place[3] for place in paid}:
        made, judged = (of_pair.get((pair, is_judge), nothing)["cost_usd"] for is_judge in (False, True))
        rows = chosen.get(pair, 0)
        expected.append(
            {"pair_id": pair, "generated_usd": made, "judged_usd": judged, "selected_rows": rows}
            | {"cost_usd": made + judged, "usd_per_selected_row": (made + judged) / rows if rows else None}
        )
    expected.sort(key=lambda row: (row["usd_per_selected_row"] or math.inf, row["pair_id"]))
    same(ask("cost_per_row"), expected)


def test_what_was_paid_is_the_journals_and_what_was_used_the_tables(ask, paid):
    used = {place: row["cost_usd"] for place, row in summed(paid, lambda s, stage, agent, p: (agent, stage)).items()}
    rows = {(row["agent"], row["stage"]): row for row in ask("paid_per_agent")}
    assert {place: (row["paid_usd"], row["reserved_usd"]) for place, row in rows.items() if row["replies"]} == {
        ("a", "respond"): (1.25, 0.5),
        ("a", "rewrite"): (0.25, 0.0),
    }
    assert set(rows) == set(used)  # what only the tables know of is listed too
    for place, row in rows.items():
        assert row["used_usd"] == pytest.approx(used[place])
        assert row["unused_usd"] == pytest.approx(row["paid_usd"] - used[place], abs=1e-12)
        assert row["share"] == pytest.approx(row["paid_usd"] / 1.5)
    [total] = ask("SELECT sum(used_usd) AS used, (SELECT sum(cost_usd) FROM costs) AS costs FROM paid_per_agent")
    assert total["used"] == pytest.approx(total["costs"])


def test_the_old_name_of_what_was_paid_still_answers(ask, paid):
    of_stage = summed(paid, lambda shard, stage, agent, pair: (agent, stage))
    rows = ask("paid")
    assert [(row["agent"], row["stage"], row["cost_usd"], row["reserved_usd"]) for row in rows] == [
        ("a", "respond", 1.25, 0.5),
        ("a", "rewrite", 0.25, 0.0),
    ]
    for row in rows:
        assert row["in_tables_usd"] == pytest.approx(of_stage[row["agent"], row["stage"]]["cost_usd"])


def test_growth_adds_up_shard_by_shard_to_the_memory_banks_size(ask, rows, paid, tables, lake):
    import lancedb

    expected, totals = [], defaultdict(float)
    spent = summed(paid, lambda shard, *rest: shard)
    for shard, there in sorted(groups(rows, lambda row: row["plan"]["shard"]).items()):
        moves = tables["agent_pair_probabilities"].query("shard == @shard")
        kept = [
            row
            for row in there
            if row["composite_scores"]["selection"] == "best" and row["composite_scores"]["pi"] >= 0.1
        ]
        counted = {"seeds": len({row["plan"]["seed_id"] for row in there}), "candidates": len(there)}
        counted |= {"requests": spent[shard]["requests"], "cost_usd": spent[shard]["cost_usd"]}
        counted |= {"tokens": spent[shard]["prompt_tokens"] + spent[shard]["completion_tokens"]}
        counted |= {"llm_seconds": math.fsum(values(there, "candidates", "latency_s"))}
        for name, value in {**counted, "remembered": len(kept)}.items():
            totals[name] += value
        expected.append(
            {"shard": shard, "shard_number": int(shard[:6]), "remembered": len(kept), **counted}
            | {f"total_{name}": float(totals[name]) for name in counted}
            | {"bank_size": int(totals["remembered"])}
            | {"probabilities_moved": float((moves["probability"] - moves["probability_before"]).abs().sum() / 2)}
        )
    same(ask("growth"), expected)
    bank = lancedb.connect(str(lake.memory_bank)).open_table("instructions").count_rows()
    assert expected[-1]["bank_size"] == bank < sum(row["composite_scores"]["selection"] == "best" for row in rows)
