"""``evolution.method`` on a living lake: what was known by Eq. 8 counts, tables tell the snapshot, and losses change no byte."""

import math

import duckdb
import numpy as np
import pytest
from scipy import stats

from star_pipeline.commands.replay import replay
from star_pipeline.core import tables
from star_pipeline.core.ports import ChatReply
from star_pipeline_tests.commands.test_run import Lakeside, prefers_a
from star_pipeline_tests.conftest import CONFIG, seed_rows

SPEC = tables.AGENT_PAIR_PROBABILITIES
WEIGHT, FLOOR = 20.0, 0.02


def paid(request):
    """Agent b costs four times what a does."""
    return ChatReply(prefers_a(request), "stop", 10, 5, 0.004 if request.agent == "b" else 0.001, 0.0)


@pytest.fixture(scope="module")
def side(tmp_path_factory):
    """Two shards by Eq. 8, two by Thompson sampling, two with costs and a lag."""
    made = Lakeside(tmp_path_factory.mktemp("thompson"))
    changes = [
        {"rate": 0.05},
        {"method": "thompson", "floor": FLOOR},
        {"floor": FLOOR, "cost_weight": WEIGHT, "lag": 1},
    ]
    for number, evolution in enumerate(changes):
        made.configure(evolution=evolution)
        made.seeds(seed_rows(8, offset=8 * number), f"part{number}.json")
        made.run(paid)
    return made


def snapshots(side):
    return [side.lake.read_table(SPEC, shard) for shard in side.lake.catalog_shards()]


def test_tallies_and_chances_follow_from_the_tables_by_sql_and_scipy(side):
    def files(name):
        return f"read_parquet('{side.lake.root}/tables/{name}/*.parquet', filename = true)"

    # what every pair's draws brought up to and with each shard, whatever method was in force
    told = duckdb.sql(
        f"""
        WITH drawn AS (
            SELECT parse_filename(p.filename, true) AS shard, p.pair_id, s.pi, c.cost_usd
            FROM {files("sampling_plan")} AS p JOIN {files("composite_scores")} AS s USING (candidate_id)
            JOIN {files("candidates")} AS c USING (candidate_id)
            WHERE p.origin IN ('memory', 'explore')
        )
        SELECT shard, pair_id, count(*), coalesce(sum(pi), 0), sum(cost_usd), coalesce(sum(pi * pi), 0) FROM drawn GROUP BY ALL
        """
    ).fetchall()
    shards, pairs = side.lake.catalog_shards(), sorted(CONFIG["pairs"]["sampled"])
    for number, rows in enumerate(snapshots(side)):
        assert math.fsum(row.probability for row in rows) == pytest.approx(1, abs=1e-9)
        if number < 2:
            assert {(row.draws_total, row.reward_total, row.handicap, row.floor) for row in rows} == {(None,) * 4}
            continue
        total = {
            pair: [sum(row[n] for row in told if row[0] <= shards[number] and row[1] == pair) for n in (2, 3, 4, 5)]
            for pair in pairs
        }
        assert {row.pair_id: row.draws_total for row in rows} == {pair: total[pair][0] for pair in pairs}
        earned = {pair: total[pair][1] for pair in pairs}
        assert {row.pair_id: row.reward_total for row in rows} == pytest.approx(earned)
        weight = WEIGHT if number >= 4 else 0.0
        assert all((row.cost_total_usd is None) == (not weight) for row in rows)
        off = {pair: weight * total[pair][2] / total[pair][0] for pair in pairs}
        assert {row.pair_id: row.handicap for row in rows} == pytest.approx(off)
        draws = np.random.default_rng(number)
        coins = sum(t[1] - t[1] ** 2 / t[0] for t in total.values()) / sum(t[0] for t in total.values())
        apart = sum(t[3] - t[1] ** 2 / t[0] for t in total.values()) + 10 * coins
        c = max(1.0, coins * (sum(t[0] for t in total.values()) - len(pairs) + 10) / apart)
        drawn = [
            stats.beta(1 + c * t[1], 1 + c * (t[0] - t[1])).rvs(40_000, random_state=draws) - off[pair]
            for pair, t in total.items()
        ]
        best = np.bincount(np.argmax(drawn, axis=0), minlength=len(pairs)) / 40_000
        expected = (1 - len(pairs) * FLOOR) * best + FLOOR
        assert [{row.pair_id: row.probability for row in rows}[pair] for pair in pairs] == pytest.approx(
            list(expected), abs=0.015
        )


def test_plans_are_drawn_from_the_snapshot_before_or_with_a_lag_from_the_one_before_that(side):
    shards, made = side.lake.catalog_shards(), snapshots(side)
    for number in range(1, len(shards)):
        plan = side.lake.read_table(tables.SAMPLING_PLAN, shards[number])
        before = made[number - (2 if number >= 4 else 1)]
        assert {row.snapshot_id for row in plan} == {before[0].snapshot_id}
        chance = {row.pair_id: row.probability for row in before}
        assert all(row.probability == chance[row.pair_id] for row in plan if row.origin in ("memory", "explore"))


def test_replay_gives_every_snapshot_to_the_last_bit_and_any_other_method(side):
    steps = list(replay(side.lake, None, None))
    assert [step.rules.method for step in steps] == ["eq8"] * 2 + ["thompson"] * 4
    assert [step.replayed for step in steps[:2]] == [step.recorded for step in steps[:2]]
    whole = list(replay(side.lake, None, FLOOR, "thompson", WEIGHT))
    assert [row.probability for row in whole[-1].replayed] == pytest.approx(
        [row.probability for row in snapshots(side)[-1]]
    )
    assert {step.rules.rate for step in replay(side.lake, None, None, "eq8")} == {0.05}
    assert {step.rules.method for step in replay(side.lake, 0.3, None)} == {"eq8"}


def test_a_snapshot_that_was_lost_or_is_folded_anew_is_the_same_to_the_byte_without_a_call(side):
    before = side.files()
    for shard in side.lake.catalog_shards()[4:]:  # those that the present configuration made
        side.lake.table(SPEC, shard).unlink()
    side.run(paid)
    assert (side.asked, side.files()) == (0, before)
