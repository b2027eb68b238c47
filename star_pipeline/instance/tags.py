"""Dagster's own tags by which we tell runs, backfills and data versions. They are stored in instances, and so do not change."""

from dagster import AssetKey

PARTITION = "dagster/partition"
BACKFILL = "dagster/backfill"
PRIORITY = "dagster/priority"
MAX_RETRIES = "dagster/max_retries"
WILL_RETRY = "dagster/will_retry"
AUTO_RETRY_RUN_ID = "dagster/auto_retry_run_id"
HIDDEN_PREFIX = ".dagster/"
"""Tags that begin so are not shown."""
REPOSITORY_LABEL = f"{HIDDEN_PREFIX}repository"
DATA_VERSION = "dagster/data_version"
DATA_VERSION_IS_USER_PROVIDED = "dagster/data_version_is_user_provided"
CODE_VERSION = "dagster/code_version"


def input_data_version(parent: AssetKey) -> str:
    """Of a materialisation: the data version of ``parent`` that it was made from."""
    return f"dagster/input_data_version/{parent.to_user_string()}"


def input_event_pointer(parent: AssetKey) -> str:
    """Of a materialisation: the storage id of the event that made that version."""
    return f"dagster/input_event_pointer/{parent.to_user_string()}"
