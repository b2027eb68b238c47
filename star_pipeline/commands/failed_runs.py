"""Why a run failed, in one line."""

import dagster as dg

from star_pipeline.instance.private import SerializableErrorInfo


def why_failed(result: dg.ExecuteInProcessResult) -> str:
    """The failed step's own words: a dg.Failure's description, else the innermost error."""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data and data.user_failure_data.description:
                return f"{event.step_key}: {data.user_failure_data.description}"
            return f"{event.step_key}: {_innermost(data.error) or 'failed'}"
    failures = [event for event in result.all_events if event.is_failure]
    last = failures[-1] if failures else None
    # what fails between the steps, as Dagster's storage does, is told with the run alone
    said = _innermost(last.job_failure_data.error) if last and last.is_job_failure else ""
    return f"{result.run_id[:8]}: {said or (last.message if last else 'failed')}"


def _innermost(error: SerializableErrorInfo | None) -> str:
    """What the first error said, in one line; of Dagster's storage with the remedy."""
    of_storage = False
    while error and error.cause:
        of_storage = of_storage or error.cls_name == "DagsterPostgresException"
        error = error.cause
    said = " ".join(error.message.split()) if error else ""
    if not of_storage:
        return said
    return (
        f"Dagster's storage: {said}; see that its database runs and can be reached, then run the same command to go on"
    )
