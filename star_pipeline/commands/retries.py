"""Rows of finished shards that failed for a reason that may pass, or was an agent's: ``run`` tries them again."""

import json
from collections import Counter

from star_pipeline.adapters.journal.opening import read_spend
from star_pipeline.adapters.lake import Lake
from star_pipeline.config import StarConfig
from star_pipeline.core.planning.retrying import (
    MAY_PASS,
    answering,
    candidates_to_try,
    in_words,
    pays_nothing_twice,
    verdicts_to_try,
)
from star_pipeline.core.table_spec import AnyTable
from star_pipeline.core.tables import CANDIDATES, JUDGE_VERDICTS

Found = Counter[tuple[str, str]]


class Retries:
    """``untold``: nobody asks through the lake's journal, so that nothing is tried again by itself."""

    def __init__(self, lake: Lake, settings: StarConfig, untold: bool) -> None:
        self._lake, self._settings = lake, settings
        self._journalled: bool | None = False if untold else None
        self._left: dict[str, Found] = {}

    @property
    def left(self) -> tuple[str, ...]:
        """What is still to be tried, in a line for each table; empty where all was made."""
        return tuple(
            f"{sum(found.values()):,} {what} failed for a reason that may pass, or is an agent's ({in_words(found)}); mend what the "
            "reasons name (star-pipeline query failures), then run again: they are tried again, and nothing answered is paid twice"
            for what, found in self._left.items()
        )

    def of(self, shard: str) -> set[str]:
        """The tables of a shard with rows to try now: where all that was answered is in the journal, and so costs nothing."""
        if not self._lake.has_live_seeds(shard):
            return set()
        wanted = set()
        if self._candidates(shard) and self._affordable(CANDIDATES, shard):
            wanted.add(CANDIDATES.name)
        if self._verdicts(shard) and self._affordable(JUDGE_VERDICTS, shard):
            wanted.add(JUDGE_VERDICTS.name)
        return wanted

    def look_again(self, shard: str) -> None:
        """The shard was made: what of it is still to be tried."""
        for what, found in (("candidates", self._candidates(shard)), ("comparisons", self._verdicts(shard))):
            if found:
                self._left.setdefault(what, Counter()).update(found)

    def _candidates(self, shard: str) -> Found:
        if not self._lake.has_table(CANDIDATES, shard):
            return Counter()
        kinds = self._lake.read_arrow(CANDIDATES, shard, ["error_kind"]).column("error_kind").unique().to_pylist()
        return (
            candidates_to_try(self._lake.read_table(CANDIDATES, shard)) if MAY_PASS.intersection(kinds) else Counter()
        )

    def _verdicts(self, shard: str) -> Found:
        if not self._lake.has_table(JUDGE_VERDICTS, shard):
            return Counter()
        verdicts = self._lake.read_arrow(JUDGE_VERDICTS, shard, ["verdict"]).column("verdict").unique().to_pylist()
        return verdicts_to_try(self._lake.read_table(JUDGE_VERDICTS, shard)) if "failed" in verdicts else Counter()

    def _affordable(self, spec: AnyTable, shard: str) -> bool:
        if self._journalled is None:
            self._journalled = bool(read_spend(self._settings, self._lake))
        if not self._journalled:
            return False
        if spec is JUDGE_VERDICTS and not any(row.reply_first for row in self._lake.read_table(JUDGE_VERDICTS, shard)):
            return True  # the judge answered nothing: nothing of it is paid
        metadata = self._lake.read_arrow(spec, shard, ["candidate_id"]).schema.metadata or {}
        if metadata.get(b"config_fingerprint", b"").decode() == self._settings.fingerprint:
            return True
        before = json.loads(metadata[b"config_settings"]) if b"config_settings" in metadata else None
        now = json.loads(json.dumps(self._settings.deciding))
        asked = set(self._settings.judge.judges) | (self._answering(shard) if spec is CANDIDATES else set())
        return pays_nothing_twice(before, now, asked)

    def _answering(self, shard: str) -> set[str]:
        """The agents that answered something; one that has not may be asked in other words."""
        return answering(self._lake.read_table(CANDIDATES, shard))
