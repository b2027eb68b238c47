"""The order of the shards: one at a time, and when one of them has to be tried again, at each moment of Dagster's bookkeeping."""

import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster import DagsterEventType as Event
from dagster import DagsterRunStatus as Status
from dagster._core.events import EngineEventData
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from star_pipeline.adapters.lake import Lake
from star_pipeline.instance import open_instance, queue
from star_pipeline.instance.processes import process_tags
from star_pipeline.instance.queue import still_to_come, tried_again_before
from star_pipeline.instance.scopes import SCOPE_TAG, pool_of


@dg.job
def nothing():
    pass


@pytest.fixture
def instance(tmp_path):
    with open_instance(Lake.at(tmp_path)) as opened:
        yield opened


def run_of(instance, number, status, **tags):
    location = GrpcServerCodeLocationOrigin(host="localhost", port=1)
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), nothing.name)
    named = {f"dagster/{name}": value for name, value in tags.items()}
    return instance.create_run_for_job(
        nothing, tags={"dagster/partition": f"{number:06}-seeds", **named}, status=status, remote_job_origin=origin
    )


def sleeps(monkeypatch, instead):
    """What the queue does between two looks, and nobody else: other threads may sleep meanwhile."""
    monkeypatch.setattr(queue, "time", SimpleNamespace(sleep=instead))


def event(run, kind):
    return dg.DagsterEvent(kind.value, job_name=run.job_name)


def awaited(instance, number=2):
    found = tried_again_before(instance, run_of(instance, number, Status.QUEUED))
    return found.run_id if found else None


def test_a_shard_waits_until_the_killed_one_before_it_has_been_launched_anew(instance):
    killed = run_of(instance, 1, Status.STARTED)
    assert awaited(instance) is None
    # Dagster marks the run as failed, and only then notes that it comes again
    instance.run_storage.handle_run_event(killed.run_id, event(killed, Event.RUN_FAILURE), datetime.now(UTC))
    assert instance.get_run_by_id(killed.run_id).status == Status.FAILURE
    assert awaited(instance) == killed.run_id
    instance.add_run_tags(killed.run_id, {"dagster/will_retry": "true"})
    assert awaited(instance) == killed.run_id
    # the next try is made and noted, and only then put into the queue
    again = run_of(instance, 1, Status.NOT_STARTED)
    instance.add_run_tags(killed.run_id, {"dagster/auto_retry_run_id": again.run_id})
    assert awaited(instance) == killed.run_id
    instance.report_dagster_event(event(again, Event.RUN_ENQUEUED), run_id=again.run_id)
    assert awaited(instance) == killed.run_id
    instance.report_dagster_event(event(again, Event.RUN_STARTING), run_id=again.run_id)
    assert awaited(instance) is None


def test_nobody_waits_for_a_run_that_does_not_come_again_or_for_a_later_shard(instance):
    run_of(instance, 1, Status.FAILURE, will_retry="false")
    run_of(instance, 3, Status.FAILURE, will_retry="true")
    assert awaited(instance) is None
    assert awaited(instance, 4) is not None


def test_where_runs_start_together_a_shard_waits_for_the_earlier_ones_that_live(tmp_path, monkeypatch):
    with (
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as worker,
        dg.DagsterInstance.local_temp(str(tmp_path)) as plain,
    ):
        first = run_of(plain, 1, Status.STARTED)
        plain.report_engine_event("Started process for run.", first, EngineEventData.in_process(worker.pid))
        gone = run_of(plain, 2, Status.STARTED)
        plain.report_engine_event("Started process for run.", gone, EngineEventData.in_process(999_999_999))
        third = run_of(plain, 3, Status.STARTED)
        looks = []

        def sleep(seconds):
            looks.append(seconds)
            if len(looks) == 3:
                worker.kill()
                worker.wait()

        sleeps(monkeypatch, sleep)
        queue.wait_for_turn(plain, first.run_id)
        assert looks == []
        queue.wait_for_turn(plain, third.run_id)
        assert len(looks) == 3
        notes = plain.get_records_for_run(third.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records
        assert [note.event_log_entry.dagster_event.message for note in notes] == [
            "Waits for shard 000001-seeds: one works at a time."
        ]


def test_with_the_lakes_own_instance_nobody_waits_in_a_run(instance, monkeypatch):
    sleeps(monkeypatch, lambda seconds: pytest.fail("it waits, and holds the slot that others need"))
    instance.add_run_tags(run_of(instance, 1, Status.STARTED).run_id, process_tags())
    queue.wait_for_turn(instance, run_of(instance, 2, Status.STARTED).run_id)


def test_with_a_lag_a_run_waits_for_a_killed_one_until_that_has_been_tried_again(instance, monkeypatch):
    """From when its process is gone, through all of Dagster's bookkeeping, to when its next try has ended; the first never waits."""
    queue.limit_runs(instance, at_once=2)
    killed = run_of(instance, 1, Status.STARTED)
    instance.report_engine_event("Started process for run.", killed, EngineEventData.in_process(999_999_999))
    waits, entered = run_of(instance, 2, Status.STARTED), []
    again = []

    def goes_on(step):
        if step == 1:
            instance.report_run_failed(killed)
        elif step == 2:
            again.append(run_of(instance, 1, Status.QUEUED))
            told = {"dagster/will_retry": "true", "dagster/auto_retry_run_id": again[0].run_id}
            instance.add_run_tags(killed.run_id, told)
        elif step == 3:
            instance.report_dagster_event(event(again[0], Event.RUN_STARTING), run_id=again[0].run_id)
        else:
            instance.report_run_canceled(again[0])

    steps = iter(range(1, 9))
    sleeps(monkeypatch, lambda seconds: goes_on(next(steps)))

    @contextmanager
    def meanwhile():
        entered.append("in")
        yield
        entered.append("out")

    queue.wait_for_turn(instance, waits.run_id, meanwhile)
    assert next(steps) == 5
    assert entered == ["in", "out"]
    queue.wait_for_turn(instance, run_of(instance, 1, Status.STARTED).run_id, meanwhile)
    assert entered == ["in", "out"]


def test_a_limit_that_is_set_stays_until_another_one_is_wanted(tmp_path):
    def limit_after(**opened):
        with open_instance(Lake.at(tmp_path), **opened) as instance:
            return queue.runs_at_once(instance, "")

    assert [limit_after(**opened) for opened in ({}, {"at_once": 3}, {}, {"at_once": 1})] == [1, 3, 3, 1]


def test_a_shard_waits_for_the_earlier_ones_of_its_backfill_until_they_are_queued(instance):
    def backfill(name, status=BulkActionStatus.REQUESTED, **picked):
        instance.add_backfill(PartitionBackfill(name, status, False, {}, 0.0, **picked))
        return run_of(instance, 3, Status.QUEUED, backfill=name)

    keys = ["000003-seeds", "000002-seeds", "000001-seeds", "000004-seeds"]
    third = backfill("job", partition_names=keys)
    run_of(instance, 2, Status.STARTED, backfill="job")
    run_of(instance, 1, Status.QUEUED)  # of nobody's backfill
    assert still_to_come(instance, third) == "000001-seeds"
    first = run_of(instance, 1, Status.NOT_STARTED, backfill="job")
    assert still_to_come(instance, third) == "000001-seeds"
    instance.report_dagster_event(event(first, Event.RUN_ENQUEUED), run_id=first.run_id)
    assert still_to_come(instance, third) is None

    requests = [dg.RunRequest(partition_key=key) for key in keys]
    assert still_to_come(instance, backfill("assets", submitting_run_requests=requests)) == "000001-seeds"
    ended = backfill("ended", BulkActionStatus.CANCELED, partition_names=keys)
    assert still_to_come(instance, ended) is None
    assert still_to_come(instance, run_of(instance, 3, Status.QUEUED)) is None


def test_lakes_that_share_an_instance_do_not_wait_for_each_others_shards(instance):
    def of(scope, number, status):
        run = run_of(instance, number, status)
        instance.add_run_tags(run.run_id, {SCOPE_TAG: scope})
        return instance.get_run_by_id(run.run_id)

    first = of("pythia", 1, Status.FAILURE)
    assert tried_again_before(instance, of("second", 2, Status.QUEUED)) is None
    assert tried_again_before(instance, of("pythia", 2, Status.QUEUED)).run_id == first.run_id

    requests = [
        dg.RunRequest(partition_key=f"00000{n}-seeds", asset_selection=[dg.AssetKey([scope, "candidates"])])
        for n, scope in ((1, "second"), (2, "pythia"))
    ]
    instance.add_backfill(
        PartitionBackfill("both", BulkActionStatus.REQUESTED, False, {}, 0.0, submitting_run_requests=requests)
    )
    third = run_of(instance, 3, Status.QUEUED, backfill="both")
    instance.add_run_tags(third.run_id, {SCOPE_TAG: "pythia"})
    assert still_to_come(instance, instance.get_run_by_id(third.run_id)) == "000002-seeds"


def test_a_run_that_waits_gives_its_slot_to_the_one_it_waits_for(tmp_path, monkeypatch):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as plain:
        queue.limit_runs(plain)
        first = run_of(plain, 1, Status.STARTED)
        plain.add_run_tags(first.run_id, process_tags())
        second = run_of(plain, 2, Status.STARTED)
        slots = plain.event_log_storage
        assert slots.claim_concurrency_slot(pool_of(""), second.run_id, "candidates").is_claimed
        sleeps(monkeypatch, lambda seconds: plain.report_run_canceled(first))
        queue.wait_for_turn(plain, second.run_id)
        assert slots.claim_concurrency_slot(pool_of(""), first.run_id, "candidates").is_claimed
