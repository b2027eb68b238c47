"""The parts of a shard that need not wait for all of it, for who works ahead: a seed's verdicts need nothing of another seed's.

``EarlyScoring`` is for models on servers, which are asked about one text at a time. Under models in this process batches are formed
over all of a shard's candidates, and others would give other bits; but of the second model each batch is told when it is done.
``EarlyJudging`` begins with a seed when all its candidates have their scores. A calibrated gap is among the whole shard.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.core.equations.generation import Generator, gather_all
from star_pipeline.core.equations.judging import Judge
from star_pipeline.core.records import Candidate, IfdScore, PlanRow, Seed

Made = Callable[[Sequence[Candidate]], None]


async def candidates_by_seed(
    maker: Generator, plan: Sequence[PlanRow], seeds: Sequence[Seed], made: Made
) -> list[Candidate]:
    """The shard's candidates, as ``maker`` makes them of all seeds at once; ``made`` is told each seed's when they are there."""
    rows_of: dict[str, list[PlanRow]] = {}
    for row in plan:
        rows_of.setdefault(row.seed_id, []).append(row)

    async def one(seed: Seed) -> list[Candidate]:
        found = await maker.candidates(rows_of.get(seed.seed_id, []), [seed], SilentProgress())
        made(found)
        return found

    return [candidate for found in await gather_all(map(one, seeds)) for candidate in found]


class EarlyScoring:
    """Scores what has arrived while the last of it was scored, until it is ended: who scores the whole shard does the rest."""

    def __init__(self, score: Callable[[Sequence[Candidate]], Awaitable[object]]) -> None:
        self._score = score
        self._ready: list[Candidate] = []
        self._task: asyncio.Task[None] | None = None
        self._ended = False

    def made(self, candidates: Sequence[Candidate]) -> None:
        self._ready += candidates
        if self._task is None or (self._task.done() and not self._ended):
            self._task = asyncio.create_task(self._drain())

    def end(self) -> None:
        self._ended, self._ready = True, []

    async def _drain(self) -> None:
        while self._ready and not self._ended:
            some, self._ready = self._ready, []
            try:
                await self._score(some)
            except Exception:  # who scores the whole shard meets it too, and raises it
                self.end()


class EarlyJudging:
    """Judges each seed's candidates, which ``made`` tells, once ``scored`` has told a score of each."""

    def __init__(self, judge: Judge, seeds: Sequence[Seed]) -> None:
        self._judge = judge
        self._seeds = {seed.seed_id: seed for seed in seeds}
        self._made: dict[str, list[Candidate]] = {}
        self._scores: dict[str, dict[str, IfdScore]] = {}
        self._tasks: list[asyncio.Task[object]] = []
        self._cancelled = False

    def made(self, candidates: Sequence[Candidate]) -> None:
        for candidate in candidates:
            self._made.setdefault(candidate.seed_id, []).append(candidate)

    def scored(self, score: IfdScore) -> None:
        made, scores = self._made[score.seed_id], self._scores.setdefault(score.seed_id, {})
        if self._cancelled or score.candidate_id in scores:  # who scores in another thread may be late
            return
        scores[score.candidate_id] = score
        if len(scores) == len(made):
            seed = self._seeds[score.seed_id]
            verdicts = self._judge.verdicts(made, [seed], list(scores.values()), SilentProgress())
            self._tasks.append(asyncio.create_task(verdicts))

    async def done(self) -> None:
        await gather_all(self._tasks)

    async def cancel(self) -> None:
        self._cancelled = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
