"""Opens the instance under the lake's ``dagster_home``: its settings and the pool's limit, before any run can start."""

import hashlib
from typing import Any

import dagster as dg
import yaml
from dagster._core.instance.ref import InstanceRef

from star_pipeline.adapters.lake import Lake
from star_pipeline.partitions import POOL

DAGSTER_YAML = """\
# Written by star-pipeline, and yours to change: once you have, it is left alone.
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  pools:
    granularity: run
    default_limit: 1
# shards start in key order, also after a killed run that is tried again
run_coordinator:
  module: star_pipeline.instance.queue
  class: ShardQueue
  config:
    dequeue_interval_seconds: 1
run_launcher:
  module: star_pipeline.instance.queue
  class: ShardLauncher
# a run whose process was killed is tried again; one whose asset failed is not
run_retries:
  enabled: true
  max_retries: 2
  retry_on_asset_or_op_failure: false
run_monitoring:
  enabled: true
  poll_interval_seconds: 15
  start_timeout_seconds: 180
  cancel_timeout_seconds: 60
retention:
  sensor:
    purge_after_days:
      skipped: 1
      failure: 30
      success: 90
"""

# what earlier versions wrote: replaced where nobody has changed it
_FORMER = {"a9ce17d4f37d78cca33d7cda97f549cde4db8114e9ff5cdbe7529d97140cb900"}
_STORAGE = {"storage", "run_storage", "event_log_storage", "schedule_storage"}


def open_instance(lake: Lake, at_the_console: bool = False) -> dg.DagsterInstance:
    """The instance under the lake's ``dagster_home``, with the pool's limit set before any run can start.

    ``at_the_console`` is for a command that executes many runs in its own process. No helper processes copy the steps'
    output: on a terminal it is seen anyway, and they would answer Ctrl-C with tracebacks of their own. And the event log
    is kept open, where it is the default one.
    """
    lake.prepare()
    home = lake.local(lake.dagster_home)
    settings = lake.dagster_home / "dagster.yaml"
    if not settings.exists() or hashlib.sha256(settings.read_bytes()).hexdigest() in _FORMER:
        lake.write_bytes(settings, DAGSTER_YAML.encode())
    overrides: dict[str, Any] = _console_overrides(lake) if at_the_console else {}
    instance = dg.DagsterInstance.from_ref(InstanceRef.from_dir(home, overrides=overrides))
    # the default limit alone would let the first runs through together
    instance.event_log_storage.set_concurrency_slots(POOL, 1)
    return instance


def _console_overrides(lake: Lake) -> dict[str, Any]:
    overrides: dict[str, Any] = {
        "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
    }
    settings = yaml.safe_load((lake.dagster_home / "dagster.yaml").read_text("utf-8")) or {}
    if not _STORAGE.intersection(settings):
        overrides["event_log_storage"] = {
            "module": "star_pipeline.instance.storage",
            "class": "KeptEngines",
            "config": {"base_dir": lake.local(lake.dagster_home / "history" / "runs")},
        }
    return overrides
