"""The final data set and the inspection file follow the shards: once they rest, and every night where that is turned on."""

import dagster as dg

from star_pipeline.jobs import publish

publish_follows = dg.AutomationConditionSensorDefinition(
    "publish_follows",
    target=dg.AssetSelection.assets("star_dataset", "inspection"),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=15,
    description="Rebuilds star_dataset and inspection once their shards have changed and no shard is queued, running or in a backfill.",
)

nightly = dg.ScheduleDefinition(
    name="nightly",
    job=publish,
    cron_schedule="0 2 * * *",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Rebuilds the final data set and the inspection file every night at 2:00 UTC, whatever has changed.",
)
