"""When the final data set and the inspection file are made anew by themselves."""

import dagster as dg

FOLLOW = (
    dg.AutomationCondition.any_deps_updated().since(
        dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
    )
    # in mid-backfill, and between the shards of a run, something is under way or was made since the last look
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.any_deps_match(dg.AutomationCondition.newly_updated())
    & ~dg.AutomationCondition.in_progress()
).with_label("its shards have changed, and rest")
"""A shard that is missing, or failed, does not hold it up: it is left out, and counted."""
