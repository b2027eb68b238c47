"""What an asset was made from, for materialisations that are reported by hand: without it Dagster guesses by the time."""

from collections.abc import Iterable

import dagster as dg

from star_pipeline.instance import tags


def input_tags(
    instance: dg.DagsterInstance,
    parents: Iterable[dg.AssetKey],
    partition: str | None,
    version: str,
    code_version: str | None,
) -> dict[str, str]:
    """Tags that name the versions of a materialisation's data and code, and those of its parents in the same partition; without one, of
    what was made of them last."""
    found = {
        tags.DATA_VERSION: version,
        tags.DATA_VERSION_IS_USER_PROVIDED: "true",
        tags.CODE_VERSION: code_version or "folded anew",
    }
    for key in parents:
        record = instance.get_latest_data_version_record(key, partition_key=partition)
        parents_own = (record.event_log_entry.tags or {}).get(tags.DATA_VERSION) if record else None
        if record and parents_own:
            found[tags.input_data_version(key)] = parents_own
            found[tags.input_event_pointer(key)] = str(record.storage_id)
    return found
