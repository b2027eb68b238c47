"""When the final data set and the inspection file are requested: scenarios evaluated as the daemon evaluates them."""

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._time import get_current_timestamp

from star_pipeline.defs.assets import LOOP_ASSETS
from star_pipeline.defs.build import build_defs
from star_pipeline.defs.jobs import FREE, PUBLISHED
from star_pipeline.defs.scope import Scope

LOOP = [dg.AssetKey(asset.name) for asset in LOOP_ASSETS]
FOLLOWING = (*FREE, *PUBLISHED)
ALL = set(PUBLISHED)
SHARD = "000001-x"


class Evening:
    """Evaluations of the conditions, one after the other, on an instance where things happen in between."""

    def __init__(self):
        self.instance, self.cursor, self.versions = dg.DagsterInstance.ephemeral(), None, 0
        self.defs = build_defs()
        self.instance.add_dynamic_partitions(Scope().partitions.name, [f"{number:06}-x" for number in range(1, 6)])

    def tick(self):
        """Names of the assets requested, which are then made, as the daemon would."""
        result = dg.evaluate_automation_conditions(
            defs=self.defs,
            instance=self.instance,
            cursor=self.cursor,
            asset_selection=dg.AssetSelection.assets(*FOLLOWING),
        )
        self.cursor = result.cursor
        requested = {name: result.get_requested_partitions(dg.AssetKey(name)) for name in FOLLOWING}
        for name, partitions in requested.items():
            for shard in sorted(partitions, key=str):
                self.made(name, shard)
        return {name for name, partitions in requested.items() if partitions}

    def made(self, name, shard=None, version=None):
        """Made with another content than ever before, or with that of ``version``."""
        self.versions += 1
        tags = {"dagster/data_version": version or str(self.versions)}
        self.instance.report_runless_asset_event(dg.AssetMaterialization(name, partition=shard, tags=tags))

    def shard_done(self, shard):
        for key in LOOP:
            self.made(key.path[-1], shard)

    def backfill(self, assets):
        """One of all shards, under way."""
        made = PartitionBackfill.from_asset_partitions(
            backfill_id="b",
            asset_graph=self.defs.resolve_asset_graph(),
            partition_names=list(self.instance.get_dynamic_partitions(Scope().partitions.name)),
            asset_selection=assets,
            backfill_timestamp=get_current_timestamp(),
            tags={},
            dynamic_partitions_store=self.instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
        self.instance.add_backfill(made)
        return made

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
    backfill = evening.backfill(LOOP)
    evening.shard_done("000001-x")
    assert [evening.tick() for _ in range(4)] == [set()] * 4
    evening.instance.update_backfill(backfill.with_status(BulkActionStatus.COMPLETED_FAILED))
    assert evening.tick() == ALL


def rest(evening):
    """Ticks until nothing is requested any more; what they asked for."""
    asked = []
    while not asked or asked[-1] or len(asked) < 3:
        asked.append(evening.tick())
    return [one for one in asked if one]


@pytest.fixture
def done(evening):
    for shard in ("000001-x", "000002-x"):
        evening.shard_done(shard)
    assert rest(evening) == [ALL]
    return evening


def test_verdicts_made_again_alone_are_followed_by_what_costs_nothing_and_only_then_published(done):
    done.made("judge_verdicts", "000001-x")
    assert rest(done) == [set(FREE), ALL]


def test_a_backfill_of_verdicts_alone_is_waited_for_by_all_that_is_published(done):
    backfill = done.backfill([dg.AssetKey("judge_verdicts")])
    done.made("judge_verdicts", "000001-x")
    done.made("judge_verdicts", "000002-x")
    done.made("composite_scores", "000001-x")  # as of a run that was asked for meanwhile
    assert not ALL.intersection(name for _ in range(4) for name in done.tick())
    done.instance.update_backfill(backfill.with_status(BulkActionStatus.COMPLETED_SUCCESS))
    assert rest(done) == [set(FREE), ALL]


def test_what_is_paid_is_never_requested(done):
    done.made("sampling_plan", SHARD)
    done.made("candidates", SHARD)
    done.made("ifd_scores", SHARD)
    assert rest(done) == [ALL]  # which is refused: the tables do not belong together


def test_a_shard_that_was_never_done_is_not_gone_on_with(evening):
    evening.made("judge_verdicts", SHARD)
    assert rest(evening) == [ALL - {"task_domains"}]


def test_what_was_made_again_and_is_the_same_is_not_followed(done):
    done.made("judge_verdicts", SHARD, "v")
    rest(done)
    for key in LOOP:
        done.made(key.path[-1], SHARD, "v")
    rest(done)
    for key in LOOP:
        done.made(key.path[-1], SHARD, "v")
    assert rest(done) == []


def test_they_follow_by_themselves_and_the_nightly_rebuild_waits_for_a_click():
    defs = build_defs()
    nightly = defs.resolve_schedule_def("nightly")
    assert defs.resolve_sensor_def("publish_follows").default_status == dg.DefaultSensorStatus.RUNNING
    assert nightly.default_status == dg.DefaultScheduleStatus.STOPPED
    assert nightly.job_name == "publish"
