"""The order of the shards, whatever order their runs came in: named in the instance's ``dagster.yaml``.

Dagster's queue is first come, first served, and a run that is tried again after its process was killed comes last: the
shards behind it would start without their predecessor, and be refused. A backfill's runs come in the order in which somebody picked them.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster import (
    DagsterEvent,
    DagsterRunStatus,
    DefaultRunLauncher,
    QueuedRunCoordinator,
    RunsFilter,
    SubmitRunContext,
)

from star_pipeline.core.identity import shard_number
from star_pipeline.instance.attempts import RETRY_WITHIN, comes_again
from star_pipeline.instance.private import (
    BulkActionStatus,
    CanCancelExecutionRequest,
    CanCancelExecutionResult,
    CheckRunHealthResult,
    DagsterGrpcClient,
    GrpcServerCodeLocation,
    LaunchRunContext,
    RunLauncher,
    WorkerStatus,
    deserialize_value,
)
from star_pipeline.instance.processes import HOST_TAG, PROCESS_TAGS, RUNNING, lives_elsewhere, why_dead
from star_pipeline.instance.scopes import SCOPE_TAG, pool_of, scope_in, scope_of
from star_pipeline.instance.tags import BACKFILL, PARTITION, PRIORITY

_LOOK_AGAIN_S = 0.5
_ANSWER_S = 10
_LOCAL = ("localhost", "127.0.0.1", "::1")


def limit_runs(instance: dg.DagsterInstance, scope: str = "", at_once: int | None = None) -> None:
    """Set the limit of the pool of a scope's loop: the default limit of the settings alone would let the first runs through together.

    ``at_once`` None: one, unless a limit is set already.
    """
    storage = instance.event_log_storage
    if at_once is None and any(pool.name == pool_of(scope) for pool in storage.get_pool_limits()):
        return
    storage.set_concurrency_slots(pool_of(scope), at_once or 1)


def place(run: dg.DagsterRun) -> int | None:
    """The number of the shard that a run works on; None where it works on none."""
    return _number(run.tags.get(PARTITION, ""))


def _number(key: str) -> int | None:
    try:
        return shard_number(key)
    except ValueError:
        return None


def tried_again_before(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun | None:
    """A run of an earlier shard that failed, is to be tried again, and has not been launched anew yet; None where there is none."""
    number = place(run)
    if number is None:
        return None
    filters = RunsFilter(statuses=[DagsterRunStatus.FAILURE], updated_after=datetime.now(UTC) - RETRY_WITHIN)
    for failed in instance.get_runs(filters):
        failed_number = place(failed)
        mine = failed_number is not None and failed_number < number and scope_of(failed) == scope_of(run)
        if mine and comes_again(instance, failed):
            return failed
    return None


def still_to_come(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    """An earlier shard of the run's backfill that is not in the queue yet; None where there is none.

    Dagster puts the runs of a backfill into the queue one by one, in the order in which the shards were picked.
    """
    number, backfill_id = place(run), run.tags.get(BACKFILL)
    backfill = instance.get_backfill(backfill_id) if number is not None and backfill_id else None
    if number is None or backfill is None or backfill.status != BulkActionStatus.REQUESTED:
        return None
    # a backfill of assets keeps what it is about to queue; that of a job has its whole list
    scope = scope_of(run)
    queueing = [
        str(request.partition_key)
        for request in backfill.submitting_run_requests or ()
        if not request.asset_selection or scope_in(request.asset_selection) == scope
    ]
    picked = {*queueing, *(() if backfill.is_asset_backfill else backfill.partition_names or ())}
    earlier = {key for key in picked if (before := _number(key)) is not None and before < number}
    if earlier:
        runs = instance.get_runs(RunsFilter(tags={BACKFILL: str(backfill_id)}))
        queued = (one for one in runs if one.status != DagsterRunStatus.NOT_STARTED and scope_of(one) == scope)
        earlier -= {one.tags.get(PARTITION, "") for one in queued}
    return min(earlier, default=None)


def wait_for_turn(
    instance: dg.DagsterInstance,
    run_id: str,
    meanwhile: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Wait until the runs of earlier shards that are under way have ended, where the instance lets runs start together.

    The lake's own instance does so with a lag, as many as that lets be in work at once, and any other one, such as a plain ``dg dev``
    makes for the occasion, up to ten; the earliest first. Where it does not, nobody waits: a waiting run would hold the slot that its
    predecessor needs. Of several that are in work the first never waits, and where one was killed its slot is kept for its next try:
    the launcher puts later shards back until that has begun. ``meanwhile`` is entered while there is something to wait for.
    """
    run = instance.get_run_by_id(run_id)
    number = place(run) if run else None
    if run is None or number is None or runs_at_once(instance, scope_of(run)) == 1:
        return
    with ExitStack() as waiting:
        told = False
        while first := _awaited(instance, run, number):
            if not told:
                instance.report_engine_event(f"Waits for shard {first}: one works at a time.", run)
                # a step in a process of its own may hold a slot of the pool, which the earlier run needs
                instance.event_log_storage.free_concurrency_slots_for_run(run_id)
                waiting.enter_context(meanwhile())
                told = True
            time.sleep(_LOOK_AGAIN_S)


def runs_at_once(instance: dg.DagsterInstance, scope: str) -> int | None:
    """How many runs of the scope's pool the instance has under way at once; None where it does not count runs."""
    config = instance.get_concurrency_config().pool_config
    if config.pool_granularity is None or config.pool_granularity.value != "run":
        return None
    set_to = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}
    return set_to.get(pool_of(scope), config.default_pool_limit)


def _awaited(instance: dg.DagsterInstance, run: dg.DagsterRun, number: int) -> str | None:
    """The earlier shard that is in work, or is about to be (again)."""
    if shard := still_to_come(instance, run) or _under_way_before(instance, scope_of(run), number):
        return shard
    failed = tried_again_before(instance, run)
    return failed.tags[PARTITION] if failed else None


def _under_way_before(instance: dg.DagsterInstance, scope: str, number: int) -> str | None:
    # a dead run is soon marked as failed, and then tried again, where the instance looks after its runs
    looked_after = instance.run_monitoring_enabled and instance.run_retries_enabled
    for other in instance.get_runs(RunsFilter(statuses=RUNNING)):
        other_number = place(other) if scope_of(other) == scope else None
        if other_number is None or other_number >= number:
            continue
        if looked_after or why_dead(instance, other) is None:
            return other.tags[PARTITION]
    return None


class ShardQueue(QueuedRunCoordinator):
    """Dagster's run queue, where the lower shard goes first, and without a lag one at a time."""

    def __init__(self, *settings: Any, **named: Any) -> None:  # as Dagster's own, handed on as they come
        super().__init__(*settings, **named)
        self._limited: set[str] = set()

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        run, scope = context.dagster_run, scope_of(context.dagster_run)
        # an instance that nobody has opened for the lake before: a lake of a team's own project, `dg dev` without a DAGSTER_HOME
        if scope not in self._limited and (place(run) is not None or SCOPE_TAG in run.tags):
            limit_runs(self._instance, scope)
            self._limited.add(scope)
        # a run that is tried again inherits the tags of the one that was killed
        tags = dict.fromkeys(set(PROCESS_TAGS).intersection(run.tags), "")
        number = place(run)
        if number is not None and PRIORITY not in run.tags:
            tags[PRIORITY] = str(-number)
        if tags:
            self._instance.add_run_tags(run.run_id, tags)
        return super().submit_run(context)


class ShardOrder(RunLauncher):
    """What our launchers add to one of Dagster's: a shard waits for an earlier one that is about to be queued, and dead runs are told,
    wherever they were started. Named first among a launcher's bases."""

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        if awaited := tried_again_before(self._instance, run):
            why = f"shard {awaited.tags[PARTITION]} comes first, and is tried again"
        elif shard := still_to_come(self._instance, run):
            why = f"shard {shard} comes first, and is about to be queued"
        else:
            if place := self.elsewhere(context):
                # until the run says so itself: its process must not be looked for here
                self._instance.add_run_tags(run.run_id, {HOST_TAG: place})
            super().launch_run(context)  # type: ignore[safe-super]  # of the launcher that this is mixed into
            return
        self._instance.report_engine_event(f"Back into the queue: {why}.", run)
        self._instance.report_dagster_event(DagsterEvent.job_enqueue(run), run_id=run.run_id)

    def elsewhere(self, context: LaunchRunContext) -> str:
        """Where the run's process will be; empty where that is the machine on which Dagster's code server is, and that is this one."""
        return type(self).__name__

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        if reason := why_dead(self._instance, run):
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, reason)
        if super().supports_check_run_worker_health:
            return super().check_run_worker_health(run)
        return CheckRunHealthResult(WorkerStatus.RUNNING)


class ShardLauncher(ShardOrder, DefaultRunLauncher):
    """Dagster's default launcher: a run is a process of the code server's."""

    def elsewhere(self, context: LaunchRunContext) -> str:
        origin = context.dagster_run.remote_job_origin
        if context.workspace is None or origin is None:
            return ""
        name = origin.repository_origin.code_location_origin.location_name
        server = context.workspace.get_code_location(name)
        host = server.client.host if isinstance(server, GrpcServerCodeLocation) else _LOCAL[0]
        return host if host and host not in _LOCAL else ""

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        found = super().check_run_worker_health(run)
        if found.status == WorkerStatus.RUNNING and lives_elsewhere(run) and self._unknown_to_its_server(run):
            return CheckRunHealthResult(
                WorkerStatus.NOT_FOUND, "the code server does not know its process (started anew?)"
            )
        return found

    def _unknown_to_its_server(self, run: dg.DagsterRun) -> bool:
        """Whether the code server that started the run answers, and has no process of it; a run that has just ended does not count."""
        client: DagsterGrpcClient | None = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]  # Dagster's
        if client is None or client.host in _LOCAL:
            return False
        try:
            answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=_ANSWER_S)
        except dg.DagsterError:
            return False
        now = self._instance.get_run_by_id(run.run_id)
        known = deserialize_value(answer, CanCancelExecutionResult).can_cancel
        return not known and now is not None and now.status == DagsterRunStatus.STARTED
