"""What has become of the last run for something, and why it failed, in its own words."""

from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import DagsterRunStatus, RunsFilter

from star_pipeline.core.planning.run_requests import Attempt
from star_pipeline.instance import tags
from star_pipeline.instance.scopes import scope_of

KIND = "error"
"""Metadata of a failed step: the class of its error."""
RETRY_WITHIN = timedelta(minutes=5)
"""The daemon launches a killed run anew within seconds; where it has not by then, nobody waits any more."""


def last_attempt(instance: dg.DagsterInstance, filters: RunsFilter, scope: str) -> Attempt | None:
    """The newest run of the scope that fits; None where there is none. One that Dagster is to try again counts as under way."""
    records = (found for found in instance.get_run_records(filters) if scope_of(found.dagster_run) == scope)
    newest = next(records, None)
    if newest is None:
        return None
    run = newest.dagster_run
    if run.status == DagsterRunStatus.SUCCESS:
        return Attempt(run.run_id, "done")
    if run.status == DagsterRunStatus.CANCELED:
        return Attempt(run.run_id, "stopped")
    fresh = datetime.now(UTC) - newest.update_timestamp < RETRY_WITHIN
    if run.status != DagsterRunStatus.FAILURE or (fresh and comes_again(instance, run)):
        return Attempt(run.run_id, "under way")
    return Attempt(run.run_id, "failed", *failure_of(instance, run.run_id))


def failure_of(instance: dg.DagsterInstance, run_id: str) -> tuple[str, str]:
    """(class of the error, its line); two empty texts where no step of the run failed, as when its process was killed."""
    for record in instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records:
        event = record.event_log_entry.dagster_event
        failure = event.step_failure_data.user_failure_data if event else None
        if failure and failure.description:
            kind = failure.metadata.get(KIND)
            return (str(kind.value) if kind else "", failure.description)
        error = event.step_failure_data.error if event else None
        while error and error.cause:
            error = error.cause
        if error:
            return error.cls_name or "", " ".join(error.message.split())
    return "", ""


def comes_again(instance: dg.DagsterInstance, failed: dg.DagsterRun) -> bool:
    """Whether Dagster is to try a failed run again and has not launched it yet. It does so within RETRY_WITHIN, or not at all."""
    # a run has failed before Dagster notes whether it comes again, and its successor is noted before it is in the queue
    said = failed.tags.get(tags.WILL_RETRY)
    if not (instance.run_retries_enabled if said is None else said.lower() == "true"):
        return False
    if tags.AUTO_RETRY_RUN_ID not in failed.tags:
        return True
    successor = instance.get_run_by_id(failed.tags[tags.AUTO_RETRY_RUN_ID])
    return successor is not None and successor.status in (DagsterRunStatus.NOT_STARTED, DagsterRunStatus.QUEUED)
