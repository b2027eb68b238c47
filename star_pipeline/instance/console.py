"""The instance of a command: its runs name the code location that ``star-pipeline dev`` serves, so that the UI lists them."""

from typing import Any

import dagster as dg

from star_pipeline.adapters.lake import Lake
from star_pipeline.instance.private import (
    ConfigurableClassData,
    InstanceRef,
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from star_pipeline.instance.processes import process_tags
from star_pipeline.instance.tags import REPOSITORY_LABEL

LOCATION = "star_pipeline.definitions"
"""The module with the definitions, and the name of the code location that it makes in Dagster's UI."""
_REPOSITORY = "__repository__"


class ConsoleInstance(dg.DagsterInstance):
    """Dagster's timeline and its jobs' pages leave out a run that names no code location, as those executed in a process do not."""

    held: Lake | None = None
    """The lake that the command holds while it works."""
    database: str | None = None
    """The environment variable with the URL of the database that its lock is in."""

    def create_run_for_job(self, job_def: dg.JobDefinition, **named: Any) -> dg.DagsterRun:  # type: ignore[override]  # its many arguments go on as they come
        origin = RemoteJobOrigin(
            RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(LOCATION), _REPOSITORY), job_def.name
        )
        # all that a command's runs do they do in its process
        tags = {
            **process_tags(self.held, self.database),
            **(named.get("tags") or {}),
            REPOSITORY_LABEL: f"{_REPOSITORY}@{LOCATION}",
        }
        return super().create_run_for_job(job_def, **{**named, "remote_job_origin": origin, "tags": tags})


def at_the_console(ref: InstanceRef) -> InstanceRef:
    """The same instance, as a command opens it."""
    made_by = ConfigurableClassData(ConsoleInstance.__module__, ConsoleInstance.__name__, "{}")
    return ref._replace(custom_instance_class_data=made_by)
