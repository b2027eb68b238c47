"""Runs that died with their process: who they lived in, whether it is still there, and failing those that are gone.

A process of this machine is looked up. One elsewhere cannot be: but a run tells, in a tag, the lake that it holds, from just after it
has taken it to just before it lets go, and a lake is held by a process that lives. So a run of the loop that has this tag, and whose
process does not hold the lake, is dead, on whatever host, and so is a study's whose process does not hold the study of its lake. One
that has not come so far, or waits between two steps that have a process each, has no such tag, and only its launcher can tell what has
become of it.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import dagster as dg
import psutil
from dagster import DagsterRunStatus, RunsFilter

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.locks import lock_in
from star_pipeline.core.errors import StarError
from star_pipeline.core.locking import Kind
from star_pipeline.instance.tags import HIDDEN_PREFIX, MAX_RETRIES

# hidden from the lists of runs in the UI, where they would crowd out what a run is about
HOST_TAG, PID_TAG, STARTED_TAG = (f"{HIDDEN_PREFIX}star_{name}" for name in ("host", "pid", "process_started"))
_FORMER = {HOST_TAG: "star/host", PID_TAG: "star/pid", STARTED_TAG: "star/process_started"}
"""What earlier versions called them."""
NAMESPACE_TAG = f"{HIDDEN_PREFIX}star_processes_of"
"""Which process numbers it has: containers may share a host's name."""
LAKE_TAG = f"{HIDDEN_PREFIX}star_holds"
"""The lake that the run's process holds now; missing or empty where it holds none."""
KIND_TAG = f"{HIDDEN_PREFIX}star_holds_its"
"""What of that lake it holds (``core.locking.Kind``); missing: the lake itself."""
LOCK_TAG = f"{HIDDEN_PREFIX}star_lock_in"
"""The environment variable with the URL of the database that the lake's lock is in; empty where it is a file."""
PROCESS_TAGS = (*_FORMER, *_FORMER.values(), NAMESPACE_TAG, LAKE_TAG, KIND_TAG, LOCK_TAG)
RUNNING = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
_START_TIMEOUT_S = 180.0


def process_tags(held: Lake | None = None, database: str | None = None, kind: Kind = "lake") -> dict[str, str]:
    """Run tags that name the process a run lives in, and the lake that it holds, so that a run whose process is dead can be told."""
    return {
        HOST_TAG: socket.gethostname(),
        PID_TAG: str(os.getpid()),
        STARTED_TAG: f"{psutil.Process().create_time():.2f}",
        NAMESPACE_TAG: _namespace(),
        LAKE_TAG: str(held.root) if held else "",
        KIND_TAG: kind,
        LOCK_TAG: database or "",
    }


@contextmanager
def told_to_hold(
    instance: dg.DagsterInstance, run_id: str, held: Lake, database: str | None, kind: Kind
) -> Iterator[None]:
    """The run tells that this process holds the lake, or its study, for as long as the block runs."""
    if not instance.has_run(run_id):  # as in an asset that is tried by itself
        yield
        return
    instance.add_run_tags(run_id, process_tags(held, database, kind))
    try:
        yield
    finally:
        instance.add_run_tags(run_id, {LAKE_TAG: ""})


def _namespace() -> str:
    """Empty where the system has one for all processes."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def fail_dead_runs(instance: dg.DagsterInstance, try_again: bool = True) -> list[str]:
    """Mark runs as failed whose process is no more: they would hold the pool for good. Returns their ids.

    Without ``try_again`` the daemon does not launch them anew: the caller does their work itself.
    """
    dead = []
    for run in instance.get_runs(RunsFilter(statuses=RUNNING)):
        reason = why_dead(instance, run)
        if reason:
            if not try_again:
                instance.add_run_tags(run.run_id, {MAX_RETRIES: "0"})
            instance.report_run_failed(instance.get_run_by_id(run.run_id) or run, f"{reason}; run again to go on")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            dead.append(run.run_id)
    return dead


def why_dead(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    """Why a run that counts as running cannot be; None where it lives, or lives elsewhere and nothing tells that it does not."""
    if lives_elsewhere(run):
        return _lost_its_lake(instance, run)
    processes = _processes(instance, run)
    if not processes:
        return "this run never came to life" if _silent_for(instance, run) > _START_TIMEOUT_S else None
    # where each step has a process of its own, they come and go, and the run's outlives them all
    if any(_alive(pid, begun_by) for pid, begun_by in processes.items()):
        return None
    return f"process {next(iter(processes))} of this run is gone (killed?)"


def lives_elsewhere(run: dg.DagsterRun) -> bool:
    """Whether the run's process is on another machine, or in a container whose processes are not seen from here."""
    numbers = run.tags.get(NAMESPACE_TAG)
    return _tag(run, HOST_TAG) not in ("", socket.gethostname()) or bool(numbers and numbers != _namespace())


def _lost_its_lake(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    lake, host, pid = run.tags.get(LAKE_TAG), _tag(run, HOST_TAG), _tag(run, PID_TAG)
    if not lake or not pid.isdigit():
        return None
    kind: Kind = "study" if run.tags.get(KIND_TAG) == "study" else "lake"
    try:
        if lock_in(run.tags.get(LOCK_TAG), Lake.at(lake)).is_held_by(host, int(pid), kind) is not False:
            return None
    except StarError:
        return None
    # it may have let go of the lake in the meantime, as it should
    now = instance.get_run_by_id(run.run_id)
    if now is None or now.is_finished or any(now.tags.get(tag) != run.tags.get(tag) for tag in PROCESS_TAGS):
        return None
    return f"process {pid} on {host} does not {'study' if kind == 'study' else 'hold'} {lake} any more (killed?)"


def _processes(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[int, float]:
    """Each process that the run lives or lived in, its own first, and a time (s since 1970) by which it had begun.

    Dagster's own note comes before the first step.
    """
    found: dict[int, float] = {}
    for note in instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records:
        event = note.event_log_entry.dagster_event
        pid = event.engine_event_data.metadata.get("pid") if event else None
        if pid is not None and str(pid.value).isdigit():
            found[int(str(pid.value))] = note.event_log_entry.timestamp
    if not found:
        # a run that is tried again may have these of the one before it, until it has its own
        with suppress(ValueError):
            found[int(_tag(run, PID_TAG))] = float(_tag(run, STARTED_TAG))
    return found


def _tag(run: dg.DagsterRun, name: str) -> str:
    """Empty where the run has no such tag, by its former or its present name."""
    return run.tags.get(_FORMER[name]) or run.tags.get(name, "")


def _alive(pid: int, begun_by: float) -> bool:
    try:
        process = psutil.Process(pid)
        # a later process may have been given the same number
        return process.create_time() <= begun_by + 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _silent_for(instance: dg.DagsterInstance, run: dg.DagsterRun) -> float:
    record = instance.get_run_record_by_id(run.run_id)
    return time.time() - record.update_timestamp.timestamp() if record else 0.0
