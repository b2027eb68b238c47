"""When the final data set and the inspection file are requested: scenarios evaluated as the daemon evaluates them."""

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._time import get_current_timestamp

from star_pipeline.assets import LOOP_ASSETS
from star_pipeline.automation.publishing import nightly, publish_follows
from star_pipeline.definitions import build_defs
from star_pipeline.jobs import PUBLISHED
from star_pipeline.partitions import SHARDS

LOOP = [asset.key for asset in LOOP_ASSETS]
ALL = set(PUBLISHED)
SHARD = "000001-x"


class Evening:
    """Evaluations of the conditions, one after the other, on an instance where things happen in between."""

    def __init__(self):
        self.instance, self.cursor = dg.DagsterInstance.ephemeral(), None
        self.defs = build_defs()
        self.instance.add_dynamic_partitions(SHARDS.name, [f"{number:06}-x" for number in range(1, 6)])

    def tick(self):
        """Names of the assets requested, which are then made, as the daemon would."""
        result = dg.evaluate_automation_conditions(
            defs=self.defs, instance=self.instance, cursor=self.cursor, asset_selection=dg.AssetSelection.assets(*ALL)
        )
        self.cursor = result.cursor
        requested = {r.key.path[-1] for r in result.results if r.true_subset.size}
        for name in PUBLISHED:
            if name in requested:
                self.made(name)
        return requested

    def made(self, name, shard=None):
        self.instance.report_runless_asset_event(dg.AssetMaterialization(name, partition=shard))

    def shard_done(self, shard):
        for key in LOOP:
            self.made(key.path[-1], shard)

    def waiting(self, shard):
        return self.instance.create_run_for_job(
            self.defs.resolve_job_def("process_shard"), tags={"dagster/partition": shard}
        )


@pytest.fixture
def evening():
    made = Evening()
    made.tick()
    return made


def test_nothing_is_requested_where_nothing_has_happened(evening):
    assert [evening.tick() for _ in range(3)] == [set()] * 3


def test_all_follow_once_the_shards_rest_though_others_are_missing_and_then_no_more(evening):
    evening.shard_done("000001-x")
    assert evening.tick() == set()  # just made: more may come
    evening.shard_done("000002-x")
    assert evening.tick() == set()
    assert evening.tick() == ALL
    assert [evening.tick() for _ in range(4)] == [set()] * 4


def test_a_new_catalogue_alone_is_followed_too_since_records_may_have_left(evening):
    evening.made("seed_catalog")
    evening.tick()
    assert evening.tick() == ALL


def test_a_shard_that_waits_its_turn_is_waited_for_and_one_that_failed_is_not(evening):
    evening.shard_done("000001-x")
    run = evening.waiting("000002-x")
    assert [evening.tick() for _ in range(3)] == [set()] * 3
    evening.instance.report_run_failed(run)
    assert evening.tick() == ALL


def test_a_backfill_is_waited_for_also_between_its_runs(evening):
    graph = evening.defs.resolve_asset_graph()
    keys = evening.instance.get_dynamic_partitions(SHARDS.name)
    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id="b",
        asset_graph=graph,
        partition_names=list(keys),
        asset_selection=LOOP,
        backfill_timestamp=get_current_timestamp(),
        tags={},
        dynamic_partitions_store=evening.instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )
    evening.instance.add_backfill(backfill)
    evening.shard_done("000001-x")
    assert [evening.tick() for _ in range(4)] == [set()] * 4
    evening.instance.update_backfill(backfill.with_status(BulkActionStatus.COMPLETED_FAILED))
    assert evening.tick() == ALL


def test_they_follow_by_themselves_and_the_nightly_rebuild_waits_for_a_click():
    assert publish_follows.default_status == dg.DefaultSensorStatus.RUNNING
    assert nightly.default_status == dg.DefaultScheduleStatus.STOPPED
    assert nightly.job_name == "publish"
