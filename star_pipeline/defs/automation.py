"""What is made anew by itself: the final data set and what describes it, and before them what costs nothing and lags behind."""

from collections.abc import Callable

import dagster as dg

from star_pipeline.defs.scope import Scope

Automation = Callable[[Scope], dg.AutomationCondition[dg.AssetKey]]
"""An asset's condition, which names other assets of its scope."""

_SINCE_MADE = dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
# what was made again and is what it was before is no change
_CHANGED = (
    dg.AutomationCondition.data_version_changed() & ~dg.AutomationCondition.executed_with_root_target()
) | dg.AutomationCondition.will_be_requested()


def once_settled(scope: Scope) -> dg.AutomationCondition[dg.AssetKey]:
    """For what is made of all shards: once they have changed, and rest. A shard that is missing, or failed, does not hold it up: it
    is left out, and counted."""
    # scores that are older than their verdicts contradict them
    scores_lag = (
        dg.AutomationCondition.any_deps_match(_CHANGED)
        .allow(dg.AssetSelection.assets(scope.key("judge_verdicts")))
        .since(dg.AutomationCondition.newly_updated())
        & ~dg.AutomationCondition.missing()
    )
    return (
        dg.AutomationCondition.any_deps_match(_CHANGED).since(_SINCE_MADE)
        # in mid-backfill, and between the shards of a run, something is under way or was made since the last look
        & ~dg.AutomationCondition.any_deps_in_progress()
        # what a dep is made from may be under way without it, as verdicts that are made again alone
        & ~dg.AutomationCondition.any_deps_match(dg.AutomationCondition.any_deps_in_progress())
        & ~dg.AutomationCondition.any_deps_match(dg.AutomationCondition.newly_updated())
        & ~dg.AutomationCondition.any_deps_match(scores_lag).allow(
            dg.AssetSelection.assets(scope.key("composite_scores"))
        )
        & ~dg.AutomationCondition.in_progress()
    ).with_label("its shards have changed, and rest")


def keeps_up_with(*sources: str) -> Automation:
    """For a table of a shard that costs nothing: it is made again once one of ``sources`` was made again alone, and has changed.

    One that is missing is not made: its shard was never done.
    """

    def condition(scope: Scope) -> dg.AutomationCondition[dg.AssetKey]:
        changed = dg.AutomationCondition.any_deps_match(_CHANGED).allow(
            dg.AssetSelection.assets(*map(scope.key, sources))
        )
        return (
            changed.since(_SINCE_MADE)
            & ~dg.AutomationCondition.missing()
            & ~dg.AutomationCondition.in_progress()
            & ~dg.AutomationCondition.any_deps_in_progress()
        ).with_label(f"{' or '.join(sources)} was made again alone")

    return condition
