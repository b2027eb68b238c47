"""The lake's own Dagster instance: its settings, the pool's limit, and the runs that died with their process."""

import socket
from collections.abc import Mapping

import dagster as dg
import psutil
from dagster import DagsterRunStatus, RunsFilter
from dagster._core.instance.ref import InstanceRef

from star_pipeline.adapters.lake import Lake
from star_pipeline.partitions import POOL
from star_pipeline.resources import HOST_TAG, PID_TAG, STARTED_TAG

DAGSTER_YAML = """\
# Written once by star-pipeline; yours to change.
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  pools:
    granularity: run
    default_limit: 1
run_retries:
  enabled: true
  max_retries: 0
"""

_RUNNING = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]


def open_instance(lake: Lake, capture_logs: bool = True) -> dg.DagsterInstance:
    """The instance under the lake's ``dagster_home``, with the pool's limit set before any run can start.

    Without ``capture_logs`` no helper processes copy the steps' output: on a terminal it is seen anyway, and they would
    answer Ctrl-C with tracebacks of their own.
    """
    lake.prepare()
    home = lake.local(lake.dagster_home)
    settings = lake.dagster_home / "dagster.yaml"
    if not settings.exists():
        lake.write_bytes(settings, DAGSTER_YAML.encode())
    quiet = {
        "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
    }
    instance = dg.DagsterInstance.from_ref(InstanceRef.from_dir(home, overrides={} if capture_logs else quiet))
    # the default limit alone would let the first runs through together
    instance.event_log_storage.set_concurrency_slots(POOL, 1)
    return instance


def fail_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed whose process on this machine is no more: they would hold the pool for good. Returns their ids."""
    dead = []
    for run in instance.get_runs(RunsFilter(statuses=_RUNNING)):
        if run.tags.get(HOST_TAG) == socket.gethostname() and not _alive(run.tags):
            instance.report_run_failed(
                run, f"process {run.tags[PID_TAG]} of this run is gone (killed?); run again to go on"
            )
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            dead.append(run.run_id)
    return dead


def _alive(tags: Mapping[str, str]) -> bool:
    try:
        process = psutil.Process(int(tags[PID_TAG]))
        return abs(process.create_time() - float(tags[STARTED_TAG])) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return False
