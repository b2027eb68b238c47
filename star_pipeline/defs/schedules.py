"""What happens by itself: the final data set, the inspection file and the report follow the shards, and every night where that is on."""

import dagster as dg

from star_pipeline.defs.jobs import FREE, PUBLISH, PUBLISHED
from star_pipeline.defs.scope import Scope


def publish_follows(scope: Scope) -> dg.AutomationConditionSensorDefinition:
    return dg.AutomationConditionSensorDefinition(
        scope.name("publish_follows"),
        target=dg.AssetSelection.assets(*map(scope.key, (*FREE, *PUBLISHED))),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=15,
        description="Rebuilds the final data set, its domains, the inspection file and the report once shards have changed and none is "
        "queued, running or in a backfill. Before, where verdicts were made again alone, it brings scores, memory and probabilities of "
        "their shards up to date, which costs nothing; nothing that is paid is ever requested.",
    )


def nightly(scope: Scope) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name=scope.name("nightly"),
        job_name=scope.name(PUBLISH),
        cron_schedule="0 2 * * *",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Rebuilds the final data set, the inspection file and the report every night at 2:00 UTC, whatever has changed.",
    )
