"""Opens the instance under the lake's ``dagster_home``: its settings and the pool's limit, before any run can start."""

import hashlib
import logging
import multiprocessing
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from upath import UPath

from star_pipeline.adapters.lake import Lake
from star_pipeline.config import StarConfig
from star_pipeline.config.models import JournalDatabase
from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.errors import ConfigError, LakeError, in_short
from star_pipeline.instance import console
from star_pipeline.instance.private import InstanceRef, NoOpComputeLogManager
from star_pipeline.instance.queue import ShardQueue, limit_runs
from star_pipeline.instance.storage import KeptEngines, Runs, Schedules

DAGSTER_YAML, CLUSTER_YAML = (
    Path(__file__).with_name(name).read_text("utf-8") for name in ("dagster.yaml", "dagster.cluster.yaml")
)
_VARIABLE = "STAR_DATABASE"
"""The environment variable that the cluster's settings name, unless the configuration names another one."""

# what earlier versions wrote: replaced where nobody has changed it
_FORMER = {
    "a9ce17d4f37d78cca33d7cda97f549cde4db8114e9ff5cdbe7529d97140cb900",
    "dd109b390498ac7e61280e0e9f00ff0ec39baabd16772d43acb8d6ed412fb056",
    "980c113a4d14dfb0f5716765953450a4fdfc1d7e48db6d66aad66e1a15688a5e",
}
_STORAGES: dict[str, type[KeptEngines | Runs | Schedules]] = {
    "event_log_storage": KeptEngines,
    "run_storage": Runs,
    "schedule_storage": Schedules,
}


def database_of(settings: StarConfig) -> str | None:
    """The environment variable with the URL of the PostgreSQL in which journal, lock and Dagster's storage are; None where they are
    in the lake."""
    return settings.journal.postgres_env if isinstance(settings.journal, JournalDatabase) else None


def open_instance(
    lake: Lake,
    at_the_console: bool = False,
    at_once: int | None = None,
    database: str | None = None,
    held: bool = False,
) -> dg.DagsterInstance:
    """The instance under the lake's ``dagster_home``, with the pool's limit set before any run can start.

    ``at_the_console`` is for a command that executes many runs in its own process. No helper processes copy the steps'
    output: on a terminal it is seen anyway, and they would answer Ctrl-C with tracebacks of their own. ``at_once`` sets how many
    runs of the loop the daemon has under way at once. ``database`` names the environment variable with the URL of a PostgreSQL that
    takes Dagster's storage. ``held``: the command holds the lake for as long as its runs last.
    Raises ConfigError or LakeError where PostgreSQL cannot be used.
    """
    lake.prepare()
    home = lake.local(lake.dagster_home)
    settings = lake.dagster_home / "dagster.yaml"
    before = settings.read_text("utf-8") if settings.exists() else None
    wanted = _wanted(before, database)
    if wanted != before:
        lake.write_bytes(settings, wanted.encode())
    # Dagster itself looks for the file with a pattern, and so finds none below a folder such as data[old]
    said = yaml.safe_load(wanted) or {}
    overrides: dict[str, Any] = dict(said)  # settings as YAML has them, which Dagster checks
    if at_the_console:
        noop = NoOpComputeLogManager
        overrides["compute_logs"] = {"module": noop.__module__, "class": noop.__name__}
    for key, storage in _STORAGES.items():
        named = {"module": storage.__module__, "class": storage.__name__}
        if said.get(key) == named:
            # DAGSTER_HOME, where there is one, may be another lake's
            overrides[key] = {**named, "config": {"base_dir": os.path.join(home, *storage.BELOW_HOME)}}
    ref = InstanceRef.from_dir(home, overrides=overrides)
    with _reaching(said, settings):
        instance = dg.DagsterInstance.from_ref(console.at_the_console(ref) if at_the_console else ref)
        limit_runs(instance, at_once=at_once)
    if held and isinstance(instance, console.ConsoleInstance):
        instance.held, instance.database = lake, database
    return instance


def storage_described(lake: Lake, database: str | None) -> str:
    """Where Dagster's storage is, or would be; nothing is made. Raises ConfigError or LakeError where its PostgreSQL cannot be used."""
    settings = lake.dagster_home / "dagster.yaml"
    said = yaml.safe_load(_wanted(settings.read_text("utf-8") if settings.exists() else None, database)) or {}
    with _reaching(said, settings):
        module = str((said.get("run_storage") or {}).get("module", ""))
    where = {"star_pipeline.instance.storage": "in SQLite", "star_pipeline.instance.postgres": "in PostgreSQL"}
    return f"runs and events are kept {where.get(module, f'as {settings} says')}"


def _wanted(text: str | None, database: str | None) -> str:
    """The settings that are to be: ``text`` itself, what there is, where a user has written or changed it, or chosen the cluster's."""
    cluster = text is not None and _on(_VARIABLE, text) == CLUSTER_YAML
    local = text is None or text == DAGSTER_YAML or hashlib.sha256(text.encode()).hexdigest() in _FORMER
    if database and (cluster or local):
        return _on(database, CLUSTER_YAML)
    return DAGSTER_YAML if text is None or local else text


def _on(variable: str, text: str) -> str:
    return re.sub(r"(?<=env: )\w+(?=})|(?<=postgres_env: )\w+(?=})", variable, text)


@contextmanager
def _reaching(said: JsonObject, settings: UPath) -> Iterator[None]:
    """Raises ConfigError or LakeError, in a line, where PostgreSQL as our settings name it cannot be used."""
    storage = said.get("run_storage") or {}
    if storage.get("module") != "star_pipeline.instance.postgres":
        yield
        return
    url = (storage.get("config") or {}).get("postgres_url")
    variable = url.get("env") if isinstance(url, dict) else None
    expected = "expected postgresql://user:password@host:port/database"
    if variable and not os.environ.get(variable):
        raise ConfigError(f"{settings}: the environment variable {variable} is not set; {expected} in it")
    try:
        from dagster_postgres.utils import DagsterPostgresException
        from sqlalchemy.exc import SQLAlchemyError

        from star_pipeline.instance.postgres import shared_engine
    except ImportError as error:
        raise ConfigError(
            f"{settings}: Dagster's storage is to be in PostgreSQL, and {str(error.name).partition('.')[0]} is not installed; "
            'pip install "star-pipeline[postgres]"'
        ) from error
    try:
        # Dagster asks five times over, for seconds, and logs each
        shared_engine(os.environ[variable] if variable else str(url)).connect().close()
        yield
    except (DagsterPostgresException, SQLAlchemyError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise LakeError(
            f"the PostgreSQL that {variable or settings} names cannot be used: {in_short(cause)}; {expected}, and a server that is up"
        ) from error


def warn_of_another_home(lake: Lake) -> None:
    """One line in the log of a code server of Dagster's whose instance is not the lake's own; silent in any other process.

    Such an instance works, but knows nothing of what ``star-pipeline`` has run, and one made for the occasion forgets.
    """
    # a run's process is spawned by the code server, and has its command line
    if sys.argv[1:3] != ["api", "grpc"] or multiprocessing.parent_process() is not None:
        return
    own, used = lake.local(lake.dagster_home), os.environ.get("DAGSTER_HOME")
    if used and os.path.realpath(used) == os.path.realpath(own):
        return
    settings = Path(used or os.getcwd()) / "dagster.yaml"
    written = settings.read_text("utf-8") if settings.exists() else ""
    ordered = ShardQueue.__name__ in written
    if ordered and "postgres" in written:  # what machines share is no machine's own
        return
    lost = "what star-pipeline ran is not shown; runs, backfills and switched-on sensors are "
    lost += f"kept in DAGSTER_HOME, {used}" if used else "lost when Dagster ends, since DAGSTER_HOME is not set"
    if not ordered:
        lost += (
            "; runs of later shards are started and wait for the earlier ones, and killed runs are not tried again, since "
            f"{settings} does not name {ShardQueue.__name__} as {own}/dagster.yaml does"
        )
    logging.getLogger(__name__).warning(
        "Dagster does not use this lake's own instance: %s. Expected: star-pipeline dev --lake %s", lost, lake.root
    )
