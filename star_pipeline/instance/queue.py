"""The order of the shards, whatever order their runs came in: named in the instance's ``dagster.yaml``.

Dagster's queue is first come, first served, and a run that is tried again after its process was killed comes last: the
shards behind it would start without their predecessor, and be refused.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import DagsterEvent, DagsterRunStatus, RunsFilter
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, PARTITION_NAME_TAG, PRIORITY_TAG, WILL_RETRY_TAG

from star_pipeline.core.identity import shard_number
from star_pipeline.instance.processes import PROCESS_TAGS, why_dead

_RETRY_WITHIN = timedelta(minutes=5)
"""The daemon launches a killed run anew within seconds; where it has not by then, nobody waits any more."""


def place(run: dg.DagsterRun) -> int | None:
    """The number of the shard that a run works on; None where it works on none."""
    try:
        return shard_number(run.tags[PARTITION_NAME_TAG])
    except (KeyError, ValueError):
        return None


class ShardQueue(QueuedRunCoordinator):  # type: ignore[type-arg]
    """Dagster's run queue, where the lower shard goes first."""

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        run = context.dagster_run
        # a run that is tried again inherits the tags of the one that was killed
        tags = dict.fromkeys(set(PROCESS_TAGS).intersection(run.tags), "")
        number = place(run)
        if number is not None and PRIORITY_TAG not in run.tags:
            tags[PRIORITY_TAG] = str(-number)
        if tags:
            self._instance.add_run_tags(run.run_id, tags)
        return super().submit_run(context)


class ShardLauncher(DefaultRunLauncher):
    """Dagster's launcher, which lets a shard wait for an earlier one that is to be tried again, and tells dead runs."""

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        awaited = self._to_be_tried_again_before(run)
        if awaited is None:
            super().launch_run(context)
            return
        shard = awaited.tags[PARTITION_NAME_TAG]
        self._instance.report_engine_event(f"Back into the queue: shard {shard} comes first, and is tried again.", run)
        self._instance.report_dagster_event(DagsterEvent.job_enqueue(run), run_id=run.run_id)

    def _to_be_tried_again_before(self, run: dg.DagsterRun) -> dg.DagsterRun | None:
        number = place(run)
        if number is None:
            return None
        filters = RunsFilter(
            statuses=[DagsterRunStatus.FAILURE],
            tags={WILL_RETRY_TAG: "true"},
            updated_after=datetime.now(UTC) - _RETRY_WITHIN,
        )
        for failed in self._instance.get_runs(filters):
            failed_number = place(failed)
            if failed_number is not None and failed_number < number and AUTO_RETRY_RUN_ID_TAG not in failed.tags:
                return failed
        return None

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        reason = why_dead(self._instance, run)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND if reason else WorkerStatus.RUNNING, reason)
