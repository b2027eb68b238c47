"""The parts of a shard that need not wait for all of it, for who works ahead: a verdict needs a score and the seed's reference.

``EarlyScoring`` begins with each group of seeds over whose candidates batches are formed (``stages.seeds_at_once``) when they are all
there; models on servers are asked about one text at a time, and of them every seed is a group. Of the second model each batch is told
when it is done. ``EarlyJudging`` begins with a candidate when it has its score. A calibrated gap is among the whole shard.

Without a lag batches in this process are formed over a whole shard, and nothing that is kept can be computed before its last candidate.
But who is judged is as good as certain by any batches (``core.planning.certain``): so while the last candidates are awaited, and nothing
else waits to be asked, the others are scored provisionally, a few seeds at a time, and the judge is asked about them. The scores are
thrown away, the replies are not.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.core.equations.generation import Generator, gather_all
from star_pipeline.core.equations.judging import Judge
from star_pipeline.core.records import Candidate, IfdScore, PlanRow, Seed

Made = Callable[[str, Sequence[Candidate]], None]


async def candidates_by_seed(
    maker: Generator, plan: Sequence[PlanRow], seeds: Sequence[Seed], made: Made
) -> list[Candidate]:
    """The shard's candidates, as ``maker`` makes them of all seeds at once; ``made`` is told each seed's, by its id, when they are
    there."""
    rows_of: dict[str, list[PlanRow]] = {}
    for row in plan:
        rows_of.setdefault(row.seed_id, []).append(row)

    async def one(seed: Seed) -> list[Candidate]:
        found = await maker.candidates(rows_of.get(seed.seed_id, []), [seed], SilentProgress())
        made(seed.seed_id, found)
        return found

    return [candidate for found in await gather_all(map(one, seeds)) for candidate in found]


class EarlyScoring:
    """Scores groups of ``seeds_at_once`` seeds that have arrived while the last were scored, until it is ended: who scores the whole
    shard does the rest. Of the groups that have arrived, ``most`` in one call of ``score``, and only while ``may`` says so."""

    def __init__(
        self,
        score: Callable[[Sequence[Candidate]], Awaitable[object]],
        seed_ids: Sequence[str],
        seeds_at_once: int,
        most: int = 1,
        may: Callable[[], bool] = lambda: True,
    ) -> None:
        self._score, self._most, self._may = score, most, may
        groups = [seed_ids[begin : begin + seeds_at_once] for begin in range(0, len(seed_ids), seeds_at_once)]
        self._group_of = {seed_id: group for group in groups for seed_id in group}
        self._made: dict[str, Sequence[Candidate]] = {}
        self._ready: list[list[Candidate]] = []
        self._task: asyncio.Task[None] | None = None
        self._ended = False

    def made(self, seed_id: str, candidates: Sequence[Candidate]) -> None:
        """All candidates of a seed; it is passed over where it has none to be made."""
        group = self._group_of.get(seed_id)
        if self._ended or group is None:
            return
        self._made[seed_id] = candidates
        if all(other in self._made for other in group):
            self._ready.append([candidate for other in group for candidate in self._made.pop(other)])
        if self._ready and (self._task is None or self._task.done()) and self._may():
            self._task = asyncio.create_task(self._drain())

    def end(self) -> None:
        self._ended, self._ready = True, []

    async def _drain(self) -> None:
        while self._ready and not self._ended:
            some, self._ready = self._ready[: self._most], self._ready[self._most :]
            try:
                await self._score([candidate for group in some for candidate in group])
            except Exception:  # who scores the whole shard meets it too, and raises it
                self.end()


class EarlyJudging:
    """Judges each candidate once ``made`` has told all of its seed's, and ``scored`` its own score."""

    def __init__(self, judge: Judge, seeds: Sequence[Seed]) -> None:
        self._judge = judge
        self._seeds = {seed.seed_id: seed for seed in seeds}
        self._made: dict[str, dict[str, Candidate]] = {}
        self._scored: set[str] = set()
        self._tasks: list[asyncio.Task[object]] = []
        self._cancelled = False

    def made(self, candidates: Sequence[Candidate]) -> None:
        for candidate in candidates:
            self._made.setdefault(candidate.seed_id, {})[candidate.candidate_id] = candidate

    def scored(self, score: IfdScore) -> None:
        if self._cancelled or score.candidate_id in self._scored:  # who scores in another thread may be late
            return
        self._scored.add(score.candidate_id)
        made = self._made[score.seed_id]
        verdict = self._judge.verdict(made[score.candidate_id], [*made.values()], self._seeds[score.seed_id], score)
        self._tasks.append(asyncio.create_task(verdict))

    def scored_elsewhere(self) -> Callable[[IfdScore], None]:
        """``scored``, for another thread than the loop's, which it is asked for in."""
        loop = asyncio.get_running_loop()

        def tell(score: IfdScore) -> None:
            with suppress(RuntimeError):  # the run has ended, and its loop with it
                loop.call_soon_threadsafe(self.scored, score)

        return tell

    async def done(self) -> None:
        await gather_all(self._tasks)

    async def cancel(self) -> None:
        self._cancelled = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
