"""The final data set, the inspection file and the report follow the shards: once they rest, and every night where that is turned on."""

import dagster as dg

from star_pipeline.defs.jobs import FREE, PUBLISHED, publish

publish_follows = dg.AutomationConditionSensorDefinition(
    "publish_follows",
    target=dg.AssetSelection.assets(*FREE, *PUBLISHED),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=15,
    description="Rebuilds the final data set, its domains, the inspection file and the report once shards have changed and none is queued, "
    "running or in a backfill. Before, where verdicts were made again alone, it brings scores, memory and probabilities of their shards "
    "up to date, which costs nothing; nothing that is paid is ever requested.",
)

nightly = dg.ScheduleDefinition(
    name="nightly",
    job=publish,
    cron_schedule="0 2 * * *",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Rebuilds the final data set, the inspection file and the report every night at 2:00 UTC, whatever has changed.",
)
