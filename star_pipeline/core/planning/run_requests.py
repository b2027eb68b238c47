"""What a watcher of the seed files asks for next: pure decisions, so that no shard is asked for twice, or out of order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from star_pipeline.core.errors import ConfigError, LakeBusy, OrderError, SeedError

State = Literal["under way", "done", "failed", "stopped"]
FOR_GOOD = frozenset({SeedError.__name__, ConfigError.__name__})
"""Errors that come again as long as nobody edits a file."""
OUT_OF_TURN = frozenset({OrderError.__name__, LakeBusy.__name__})
"""Errors of a shard that came before its predecessor, or while a command was at work on the lake."""
_MOST_TRIES = 3


@dataclass(frozen=True)
class Attempt:
    """The last run for something; ``error`` is the class of its error and ``text`` its line, where it failed."""

    run_id: str
    state: State
    error: str = ""
    text: str = ""

    @property
    def named(self) -> str:
        return f"run {self.run_id[:8]}" + (f": {self.text}" if self.text else "")


@dataclass(frozen=True)
class ShardRequest:
    """What to request now, and why there is no more (one line)."""

    keys: tuple[str, ...]
    reason: str


def catalogue_wanted(files: str, taken_in: str | None, last: Attempt | None, tries: int) -> ShardRequest:
    """Whether to look at the seed files again: ``files`` names them as they are, ``taken_in`` as the catalogue saw them.

    ``last`` is the last run asked for with exactly these files, ``tries`` counts such runs.
    """
    if files == taken_in:
        return ShardRequest((), "the seed files are as the catalogue knows them")
    if last is None or last.state == "done":
        return ShardRequest((files,), "")
    if last.state == "under way":
        return ShardRequest((), f"the catalogue is being made ({last.named})")
    if last.error in FOR_GOOD:
        return ShardRequest((), f"waiting for the seed files to be mended ({last.named})")
    if tries >= _MOST_TRIES:
        return ShardRequest(
            (), f"the catalogue failed {tries} times ({last.named}); mend it, then materialise seed_catalog"
        )
    return ShardRequest((files,), "")


def shards_wanted(pending: Sequence[str], last: Mapping[str, Attempt], window: int) -> ShardRequest:
    """Which of the ``pending`` shards (in key order) to run now, so that at most the first ``window`` are under way.

    A shard that failed by itself holds the later ones back until somebody has run it again; one that came out of turn is
    asked for again.
    """
    wanted: list[str] = []
    for shard in pending[:window]:
        attempt = last.get(shard)
        if attempt is None or attempt.state == "done" or attempt.error in OUT_OF_TURN:
            wanted.append(shard)
        elif attempt.state != "under way":
            what = "was stopped" if attempt.state == "stopped" else "failed"
            reason = f"shard {shard} {what} and later shards wait for it ({attempt.named}); mend it, then re-execute that run"
            return ShardRequest(tuple(wanted), reason)
    under_way = min(len(pending), window) - len(wanted)
    return ShardRequest(
        tuple(wanted), f"{under_way} shards under way, {len(pending)} to do" if pending else "every shard is done"
    )
