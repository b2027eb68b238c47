"""``evolution.lag``: what a plan is drawn from, what is told of it, and what a change of it on a living lake does."""

import itertools
import json

import dagster as dg
import pytest

from star_pipeline.adapters.snapshots import stale_tables
from star_pipeline.config import load_config
from star_pipeline.core import tables
from star_pipeline.core.equations.evolution import initial_snapshot
from star_pipeline.core.identity import shard_number
from star_pipeline.defs.partitions import PRIOR_STATE
from star_pipeline_tests.conftest import CONFIG, seed_rows
from star_pipeline_tests.integration.test_loop_with_fakes import Loop, failure, preference

pytestmark = pytest.mark.slow
LAG = 1


def with_lag(config_file, lag):
    config_file.write_text(json.dumps({**CONFIG, "evolution": {"rate": 0.05, "lag": lag}}))
    return config_file


@pytest.fixture(scope="module")
def lagging(tmp_path_factory):
    """Four shards with lag 1, one after the other."""
    folder = tmp_path_factory.mktemp("lag")
    loop = Loop(folder, with_lag(folder / "config.yaml", LAG), ease=1.0)
    loop.write_seeds(seed_rows(16))
    loop.all()
    yield loop
    loop.instance.dispose()


def drawn_from(loop):
    return [loop.read(tables.SAMPLING_PLAN, shard)[0].snapshot_id for shard in loop.shards]


def test_a_plan_is_drawn_from_the_snapshot_and_the_memory_of_the_shards_up_to_1_and_the_lag_before(lagging):
    snapshots = [lagging.read(tables.AGENT_PAIR_PROBABILITIES, shard) for shard in lagging.shards]
    initial = initial_snapshot(load_config(CONFIG).sampled_ids).snapshot_id
    assert drawn_from(lagging) == [*[initial] * (1 + LAG), *(rows[0].snapshot_id for rows in snapshots[: 4 - 1 - LAG])]
    best = [
        {row.seed_id for row in lagging.read(tables.COMPOSITE_SCORES, shard) if row.selection == "best"}
        for shard in lagging.shards
    ]
    for place, shard in enumerate(lagging.shards):
        seen = {seed for row in lagging.read(tables.SAMPLING_PLAN, shard) for seed in row.neighbour_seed_ids}
        remembered = set[str]().union(*best[: max(0, place - LAG)])
        assert seen <= remembered
        assert bool(seen) == (place > LAG)


def test_snapshots_are_folded_in_order_all_the_same(lagging):
    snapshots = [lagging.read(tables.AGENT_PAIR_PROBABILITIES, shard) for shard in lagging.shards]
    for before, after in itertools.pairwise(snapshots):
        assert {row.parent_snapshot_id for row in after} == {before[0].snapshot_id}
        assert {r.pair_id: r.probability for r in before} == {r.pair_id: r.probability_before for r in after}
    assert list(stale_tables(lagging.lake)) == []


def test_each_snapshot_is_noted_on_what_the_shard_starts_from_that_draws_with_it(lagging):
    observed = lagging.instance.fetch_observations(dg.AssetKey(PRIOR_STATE), limit=100).records
    found = {}
    for record in reversed(observed):
        found.setdefault(record.asset_observation.partition, []).append(
            record.asset_observation.tags["dagster/data_version"]
        )
    for place, shard in enumerate(lagging.shards):
        if place <= LAG:
            assert found[shard] == ["initial"]
        else:
            made = lagging.instance.get_latest_data_version_record(
                dg.AssetKey("agent_pair_probabilities"), partition_key=lagging.shards[place - 1 - LAG]
            )
            assert found[shard][-1] == made.asset_materialization.tags["dagster/data_version"]


def test_card_and_tables_tell_the_lag(lagging):
    assert "lag 1: a shard's pairs were drawn" in lagging.lake.dataset_card.read_text("utf-8")
    said = lagging.lake.read_arrow(tables.SAMPLING_PLAN, lagging.shards[0]).schema.metadata
    assert json.loads(said[b"config_settings"])["evolution"]["lag"] == LAG


def test_a_shard_that_is_judged_anew_makes_the_plans_stale_that_were_drawn_from_it(tmp_path, config_file):
    preferred = ["a says"]

    def script(request):
        text = request.messages[-1].content
        return (
            preference(text, preferred[0])
            if request.template.startswith("judge")
            else f"{request.agent} says {text[-80:]}"
        )

    loop = Loop(tmp_path, with_lag(config_file, 1), script=script, ease=1.0)
    loop.write_seeds(seed_rows(12))
    loop.all()
    first, second, third = loop.shards
    preferred[0] = "b says"
    assert loop.execute("rejudge", first).success
    found = {(row.shard, row.asset): row.because for row in stale_tables(loop.lake)}
    assert (third, "sampling_plan") in found
    assert (second, "sampling_plan") not in found
    assert first in found[third, "sampling_plan"]
    loop.instance.dispose()


def test_another_lag_on_a_living_lake_holds_for_the_plans_that_are_drawn_from_then_on(tmp_path, config_file):
    loop = Loop(tmp_path, config_file, ease=1.0)
    loop.write_seeds(seed_rows(8), "a.json")
    loop.all()
    before = drawn_from(loop)
    changed = Loop(tmp_path, with_lag(config_file, LAG), ease=1.0)
    changed.write_seeds(seed_rows(8, offset=8), "b.json")
    assert changed.execute("take_in_seeds").success
    for shard in changed.shards[2:]:
        assert changed.execute("process_shard", shard).success
    snapshots = [changed.read(tables.AGENT_PAIR_PROBABILITIES, shard)[0] for shard in changed.shards]
    assert drawn_from(changed) == [*before, snapshots[0].snapshot_id, snapshots[1].snapshot_id]
    assert [row.parent_snapshot_id for row in snapshots[1:]] == [row.snapshot_id for row in snapshots[:-1]]
    assert list(stale_tables(changed.lake)) == []
    loop.instance.dispose()
    changed.instance.dispose()


def test_a_plan_can_be_drawn_before_the_shards_that_it_does_not_see_are_done(tmp_path, config_file):
    loop = Loop(tmp_path, with_lag(config_file, 1), ease=1.0)
    loop.write_seeds(seed_rows(12))
    assert loop.execute("take_in_seeds").success
    first, second, third = loop.shards
    assert loop.execute("process_shard", first, ["seed_shards"]).success
    for shard in (second, third):
        assert loop.execute("process_shard", shard, ["seed_shards"]).success
    assert loop.execute("process_shard", second, ["sampling_plan"]).success
    result = loop.execute("process_shard", third, ["sampling_plan"])
    assert f"needs the pair probabilities after shard {first}" in failure(result)
    assert shard_number(third) == 3
    loop.instance.dispose()


def test_a_lag_of_0_leaves_fingerprints_as_they_were(config_file):
    plain, paper, lag = (
        load_config({**CONFIG, "evolution": {"rate": 0.05, **more}}) for more in ({}, {"lag": 0}, {"lag": 1})
    )
    assert plain.fingerprint == paper.fingerprint == "f9dec86f2430"
    assert lag.fingerprint != plain.fingerprint
    assert lag.deciding["evolution"] == {"rate": 0.05, "floor": 0.0, "lag": 1}
