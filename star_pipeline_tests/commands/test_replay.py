"""``replay``: the recorded curves to the last bit, and other rates against an independent fold."""

import csv
import io
import json
import math

import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.commands.replay import print_replay, replay
from star_pipeline.core import tables
from star_pipeline.core.errors import ConfigError, LakeError
from star_pipeline_tests.commands.test_run import Lakeside, prefers_a
from star_pipeline_tests.conftest import CONFIG, seed_rows

PAIRS = len(CONFIG["pairs"]["sampled"])


@pytest.fixture(scope="module")
def side(tmp_path_factory):
    """Three shards with a floor, then two with another rate, floor and pairs."""
    made = Lakeside(tmp_path_factory.mktemp("replay"))
    made.configure(evolution={"rate": 0.05, "floor": 0.01})
    made.seeds(seed_rows(12))
    made.run(prefers_a)
    pairs = {"sampled": ["keep+a", "b+a", "a+a"], "base": ["keep+b"]}
    made.configure(evolution={"rate": 0.2, "floor": 0.0}, pairs=pairs)
    made.seeds(seed_rows(8, offset=12), "more.json")
    made.run(prefers_a)
    return made


def test_with_what_was_recorded_it_gives_the_recorded_snapshots_to_the_last_bit(side):
    steps = list(replay(side.lake, None, None))
    assert len(steps) == 5
    assert [(step.rules.rate, step.rules.floor) for step in steps] == [(0.05, 0.01)] * 3 + [(0.2, 0.0)] * 2
    assert [step.replayed for step in steps] == [step.recorded for step in steps]
    assert max(row.probability - row.probability_before for step in steps for row in step.recorded) > 0.01


def test_another_rate_and_floor_follow_eq_8(side):
    rate, floor = 0.5, 0.02
    expected = dict.fromkeys(CONFIG["pairs"]["sampled"], 1 / PAIRS)
    for step in list(replay(side.lake, rate, floor))[:3]:
        scores = {row.candidate_id: row.pi or 0 for row in side.lake.read_table(tables.COMPOSITE_SCORES, step.shard)}
        plan = side.lake.read_table(tables.SAMPLING_PLAN, step.shard)
        for seed in side.lake.read_table(tables.SEED_SHARDS, step.shard):
            for row in plan:
                if row.seed_id == seed.seed_id and row.origin in ("memory", "explore"):
                    expected[row.pair_id] += rate * scores[row.candidate_id]
            total = math.fsum(expected.values())
            expected = {pair: p / total for pair, p in expected.items()}
        expected = {pair: (1 - PAIRS * floor) * p + floor for pair, p in expected.items()}
        assert {row.pair_id: row.probability for row in step.replayed} == pytest.approx(expected, rel=1e-12)
        assert step.recorded == side.lake.read_table(tables.AGENT_PAIR_PROBABILITIES, step.shard)


def test_rate_0_leaves_all_alike_until_the_pairs_change(side):
    steps = list(replay(side.lake, 0.0, 0.0))
    assert {row.probability for step in steps[:3] for row in step.replayed} == {1 / PAIRS}


def test_it_changes_nothing_in_the_lake(side):
    before = side.files()
    list(replay(side.lake, 0.3, 0.1))
    assert side.files() == before


def test_every_format_tells_the_same_and_that_it_is_off_policy(side, capsys):
    steps = list(replay(side.lake, 0.5, None))
    last = {row.pair_id: row.probability for row in steps[-1].replayed}
    print_replay(steps, "json")
    told = json.loads(capsys.readouterr().out)
    assert "off-policy" in told["note"]
    assert {row["pair_id"]: row["replayed"] for row in told["shards"][-1]["pairs"]} == last
    bits = -sum(p * math.log2(p) for p in last.values())
    assert told["shards"][-1]["replayed_entropy_bits"] == pytest.approx(bits)
    assert told["shards"][-1]["recorded_entropy_bits"] > bits

    print_replay(steps, "csv")
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(out)))
    assert "off-policy" in err
    assert len(rows) == sum(len(step.recorded) for step in steps)
    assert {row["pair_id"]: float(row["replayed"]) for row in rows if row["shard"] == steps[-1].shard} == last

    print_replay(steps, "table")
    shown = capsys.readouterr().out
    assert "recorded: rate and floor 0.05 and 0.01, then 0.2 and 0" in shown
    assert "replayed: rate and floor 0.5 and 0.01, then 0.5 and 0" in shown
    for pair, p in last.items():
        assert any(line.startswith(pair) and f"{p:.2%}" in line for line in shown.splitlines())
    assert "off-policy" in shown


def test_what_cannot_be_replayed_is_said_with_the_remedy(side, tmp_path):
    with pytest.raises(LakeError, match=r"no snapshot to replay.*star-pipeline run --lake"):
        list(replay(Lake.at(tmp_path), 0.1, 0.0))
    with pytest.raises(ConfigError, match=r"--floor 0\.3: for the 4 pairs.*at most 0\.25"):
        list(replay(side.lake, 0.1, 0.3))


def test_a_table_that_does_not_say_its_rate_needs_it_given(tmp_path):
    side = Lakeside(tmp_path)
    side.seeds(seed_rows(4))
    side.run(prefers_a)
    spec, [shard] = tables.AGENT_PAIR_PROBABILITIES, side.lake.shards_of(tables.AGENT_PAIR_PROBABILITIES)
    side.lake.write_table(spec, side.lake.read_arrow(spec, shard).replace_schema_metadata(None), shard)
    with pytest.raises(LakeError, match=r"does not say which floor.*give --floor"):
        list(replay(side.lake, 0.1, None))
    [step] = replay(side.lake, 0.05, 0.0)
    assert step.replayed == step.recorded
