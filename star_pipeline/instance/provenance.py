"""What an asset was made from, for materialisations that are reported by hand: without it Dagster guesses by the time."""

from collections.abc import Iterable

import dagster as dg
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    extract_data_version_from_entry,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)


def input_tags(
    instance: dg.DagsterInstance,
    parents: Iterable[dg.AssetKey],
    partition: str,
    version: str,
    code_version: str | None,
) -> dict[str, str]:
    """Tags that name the versions of a materialisation's data and code, and those of its parents in the same partition."""
    tags = {
        DATA_VERSION_TAG: version,
        DATA_VERSION_IS_USER_PROVIDED_TAG: "true",
        CODE_VERSION_TAG: code_version or "folded anew",
    }
    for key in parents:
        record = instance.get_latest_data_version_record(key, partition_key=partition)
        found = extract_data_version_from_entry(record.event_log_entry) if record else None
        if record and found:
            tags[get_input_data_version_tag(key)] = found.value
            tags[get_input_event_pointer_tag(key)] = str(record.storage_id)
    return tags
