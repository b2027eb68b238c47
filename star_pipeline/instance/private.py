"""Every name that we take from Dagster's private modules: here, with its reason, and nowhere else.

A Dagster that has moved one of them stops us at the start, in one line that names it, and not in the middle of a run. The
developers' guide says what breaks without each.
"""

from collections.abc import Iterable
from importlib.metadata import version
from inspect import unwrap

import dagster as dg

from star_pipeline.core.errors import StarError

INSTALL = '"dagster>=1.13.5,<1.14"'


class UnknownDagster(StarError, ImportError):
    """The installed Dagster lacks a private name that this program builds on."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"dagster {version('dagster')}: {problem}; expected another release of it, install {INSTALL}")


try:
    # is a backfill under way, and which shards has it not queued yet
    from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

    # opens the instance of a lake at any path, whatever DAGSTER_HOME says
    from dagster._core.instance.ref import InstanceRef

    # what the launcher is asked, and answers
    from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, RunLauncher, WorkerStatus

    # a command's runs name the code location that `dev` serves, so that the UI lists them
    from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

    # a code server on another machine is asked whether a run's process is there
    from dagster._core.remote_representation.code_location import GrpcServerCodeLocation

    # a partition that was there once is not asked for again
    from dagster._core.storage.event_log import SqlEventLogStorage

    # SQLite on any path, the event log's engines kept
    from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage
    from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME

    # a command copies no step's output
    from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager
    from dagster._core.storage.runs.sqlite import SqliteRunStorage, sqlite_run_storage
    from dagster._core.storage.schedules.sqlite import SqliteScheduleStorage, sqlite_schedule_storage
    from dagster._grpc.client import DagsterGrpcClient
    from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult

    # how an instance's reference names a class of ours
    from dagster._serdes import ConfigurableClassData, deserialize_value

    # why a run failed, from its innermost error
    from dagster_shared.error import SerializableErrorInfo
except ImportError as error:
    raise UnknownDagster(str(error).partition(" (")[0]) from error

__all__ = [
    "INDEX_SHARD_NAME",
    "BulkActionStatus",
    "BulkActionsFilter",
    "CanCancelExecutionRequest",
    "CanCancelExecutionResult",
    "CheckRunHealthResult",
    "ConfigurableClassData",
    "DagsterGrpcClient",
    "GrpcServerCodeLocation",
    "InstanceRef",
    "LaunchRunContext",
    "NoOpComputeLogManager",
    "RegisteredCodeLocationOrigin",
    "RemoteJobOrigin",
    "RemoteRepositoryOrigin",
    "RunLauncher",
    "SerializableErrorInfo",
    "SqlEventLogStorage",
    "SqliteEventLogStorage",
    "SqliteRunStorage",
    "SqliteScheduleStorage",
    "WorkerStatus",
    "deserialize_value",
    "sqlite_run_storage",
    "sqlite_schedule_storage",
]

# fmt: off
_MEMBERS: list[tuple[object, Iterable[str]]] = [
    # ours are put in the place of these
    (SqliteEventLogStorage, (
        "_base_dir", "_connect", "_db_lock", "_initdb", "_initialized_dbs", "conn_string_for_shard", "dispose",
    )),
    (SqlEventLogStorage, ("delete_dynamic_partition", "has_dynamic_partition")),
    (SqliteRunStorage, ("config_type", "from_config_value", "from_local")),
    (SqliteScheduleStorage, ("config_type", "from_config_value", "from_local")),
    (sqlite_run_storage, ("create_db_conn_string",)),
    (sqlite_schedule_storage, ("create_db_conn_string",)),
    (dg.DefaultRunLauncher, (
        "_get_grpc_client_for_termination", "_instance", "check_run_worker_health", "launch_run",
        "supports_check_run_worker_health",
    )),
    (DagsterGrpcClient, ("can_cancel_execution", "host")),
    (GrpcServerCodeLocation, ("client",)),
    (dg.QueuedRunCoordinator, ("_instance", "submit_run")),
    (dg.DagsterInstance, ("create_run_for_job",)),
    (InstanceRef, ("_replace", "from_dir")),
    # asked, though no page of Dagster's reference describes them
    (SqliteEventLogStorage, (
        "free_concurrency_slots_for_run", "get_latest_storage_id_by_partition", "set_concurrency_slots",
    )),
    (dg.DagsterInstance, (
        "add_run_tags", "from_ref", "get_backfill", "get_backfills", "get_concurrency_config", "get_latest_data_version_record",
        "get_records_for_run", "report_dagster_event", "report_engine_event", "report_run_failed", "run_retries_enabled",
    )),
]
# fmt: on


def require(members: Iterable[tuple[object, Iterable[str]]] = _MEMBERS) -> None:
    """Raises UnknownDagster where a class or a module lacks one of its ``members``."""
    for owner, names in members:
        for name in names:
            if not _has(owner, name):
                raise UnknownDagster(f"{getattr(owner, '__name__', owner)} has no {name}")


def _has(owner: object, name: str) -> bool:
    """Also what an object of the class has from the start."""
    code = getattr(unwrap(owner.__init__), "__code__", None)  # type: ignore[misc]
    return hasattr(owner, name) or (code is not None and name in code.co_names)


require()
