"""Which assets of a shard are to be made, and why: one pure rule, asked by ``star-pipeline run`` and by the seed sensor."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Reason(StrEnum):
    """Why an asset of a shard is to be made; of several, the first in this order is told."""

    MISSING = "missing"
    UNKNOWN = "Dagster knows of no materialisation"
    ASKED = "asked for"
    OUTDATED_PLAN = "drawn by another configuration, or without its seeds, and nobody has paid for its candidates"
    RETRIED = "rows failed for a reason that may have passed"
    MISFIT = "made from other tables than are there now"
    OLDER = "what it is made from is newer, or to be made"
    REFOLDED = "the snapshot before has changed"


@dataclass(frozen=True)
class AssetState:
    """What there is of one asset of a shard: its table, and the ``number`` of its last materialisation (None: none is known).

    Numbers grow with time, over all assets.
    """

    there: bool
    number: int | None = 0


@dataclass(frozen=True)
class ShardState:
    """What is known of a shard: each asset's state, and what somebody who has read its tables found (asset -> reasons)."""

    made: Mapping[str, AssetState]
    found: Mapping[str, Collection[Reason]] = field(default_factory=dict)


def assets_to_make(
    assets: Sequence[str], parents: Mapping[str, Collection[str]], paid: Collection[str], state: ShardState
) -> dict[str, Reason]:
    """asset -> why it is to be made, in the order of ``assets``, the loop's; empty where the shard is done.

    ``parents`` maps an asset to the assets of the same shard that it is made from: where one of them is to be made, or is newer, it
    is made again too. Not so those in ``paid``, since what follows from them has been paid for: they are made again for what was
    found of them alone.
    """
    pending: dict[str, Reason] = {}
    for name in assets:
        own = state.made[name]
        reasons = set(state.found.get(name, ()))
        if not own.there:
            reasons.add(Reason.MISSING)
        elif own.number is None:
            reasons.add(Reason.UNKNOWN)
        if name not in paid and any(
            parent in pending or (state.made[parent].number or 0) > (own.number or 0)
            for parent in parents.get(name, ())
        ):
            reasons.add(Reason.OLDER)
        told = next((reason for reason in Reason if reason in reasons), None)
        if told:
            pending[name] = told
    return pending
