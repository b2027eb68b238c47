"""The jobs that make a stage again: what they redo, what they leave alone, and what the UI then shows as stale."""

import itertools

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus

from star_pipeline.core import tables
from star_pipeline.defs.build import build_defs
from star_pipeline.defs.jobs import AGAIN, LOOP
from star_pipeline_tests.conftest import say, seed_rows
from star_pipeline_tests.integration.test_loop_with_fakes import Loop, preference

pytestmark = pytest.mark.slow


class Rejudged(Loop):
    """A loop of three shards whose LLM requests are kept, and whose judge can be replaced."""

    def __init__(self, tmp_path, config_file):
        self.requests, self.script = [], say
        super().__init__(tmp_path, config_file, script=self.answer, ease=1.0)
        self.write_seeds(seed_rows(12))
        self.all()
        self.requests.clear()

    def answer(self, request):
        self.requests.append(request)
        return self.script(request)

    def stale(self):
        """(asset, shard or None) of all that the UI shows as out of date."""
        graph = self.defs.resolve_asset_graph()
        with self.instance:

            def status(name, shard):
                resolver = CachingStaleStatusResolver(
                    self.instance, graph, dg._core.loader.LoadingContextForTest(self.instance)
                )
                return resolver.get_status(dg.AssetKey(name), shard)

            places = [
                *itertools.product(LOOP, self.shards),
                ("star_dataset", None),
                ("inspection", None),
                ("report", None),
            ]
            return {place for place in places if status(*place) != StaleStatus.FRESH}

    def snapshots(self):
        return [self.read(tables.AGENT_PAIR_PROBABILITIES, shard) for shard in self.shards]


@pytest.fixture
def loop(tmp_path, config_file):
    made = Rejudged(tmp_path, config_file)
    yield made
    made.instance.dispose()


def prefers_a(request):
    if not request.template.startswith("judge"):
        return say(request)
    return preference(request.messages[-1].content, "\na on respond")


# the report is made from the inspection file, and goes stale once that is made again
PUBLISHED = {("star_dataset", None), ("inspection", None)}


def test_only_what_a_rejudged_shard_touches_is_stale_until_it_is_made_again(loop):
    first, second, third = loop.shards
    assert loop.stale() == set()
    loop.script = prefers_a
    assert loop.execute("rejudge", first).success
    assert {request.template for request in loop.requests} <= {"judge_answers", "judge_samples"}
    # plan 2 was drawn from another snapshot, and is paid: that is said, and nothing below it
    assert loop.stale() == {("sampling_plan", second), *PUBLISHED}
    loop.requests.clear()
    assert loop.execute("refold_snapshots").success
    assert loop.requests == []
    assert loop.stale() == {("sampling_plan", second), *PUBLISHED}
    assert loop.execute("publish").success
    assert loop.stale() == {("sampling_plan", second)}
    assert loop.execute("resample", second).success
    assert loop.stale() == {("sampling_plan", third), *PUBLISHED}


def test_refolding_links_the_chain_again_and_a_second_time_does_nothing(loop):
    plans = [loop.read(tables.SAMPLING_PLAN, shard) for shard in loop.shards]
    loop.script = prefers_a
    loop.execute("rejudge", loop.shards[0])
    assert loop.snapshots()[1][0].parent_snapshot_id != loop.snapshots()[0][0].snapshot_id
    loop.execute("refold_snapshots")
    chain = loop.snapshots()
    for before, after in itertools.pairwise(chain):
        assert {row.parent_snapshot_id for row in after} == {before[0].snapshot_id}
        assert [row.probability_before for row in after] == [row.probability for row in before]
        assert sum(row.probability for row in after) == pytest.approx(1, abs=1e-12)
    assert [loop.read(tables.SAMPLING_PLAN, shard) for shard in loop.shards] == plans
    again = loop.execute("refold_snapshots")
    assert not [event for event in again.all_events if event.is_step_materialization]


def test_refolding_everything_takes_the_configurations_rate(loop, config_file):
    before = loop.snapshots()
    config_file.write_text(config_file.read_text().replace('"rate": 0.05', '"rate": 0.5'))
    assert loop.execute("refold_snapshots").success
    assert loop.snapshots() == before
    job = loop.defs.resolve_job_def("refold_snapshots")
    config = {"ops": {"fold_snapshots_anew": {"config": {"all": True}}}}
    assert job.execute_in_process(instance=loop.instance, run_config=config).success
    moved = [
        max(abs(row.probability - row.probability_before) for row in rows) for rows in (before[0], loop.snapshots()[0])
    ]
    assert moved[1] > 3 * moved[0]


@pytest.mark.parametrize("name", AGAIN)
def test_each_job_begins_with_its_stage_and_ends_the_loop(name):
    job = build_defs().resolve_job_def(name)
    assert job.asset_layer.executable_asset_keys == {dg.AssetKey(n) for n in LOOP[LOOP.index(AGAIN[name]) :]}
    assert "refold_snapshots" in job.description
