"""Once an error has ended the run, nobody that is under way asks anything more."""

import asyncio

import pytest

from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.core.equations.generation import AgentPrompts, Generator
from star_pipeline.core.equations.judging import Judge, JudgeRules
from star_pipeline.core.equations.prompts import PromptLibrary
from star_pipeline.core.errors import AgentDown, BudgetReached, LakeError
from star_pipeline.core.ports import ChatReply
from star_pipeline.core.records import Candidate, IfdScore, Pair, PlanRow, Seed

SEED = Seed("s", "f", 1, None, (), "the question", "own answer")
AGENTS = "abcd"


class Ending:
    """Its fourth request ends the run; each takes a few turns of the event loop."""

    def __init__(self, error):
        self.error, self.asked, self.ended_at = error, 0, None

    async def complete(self, request):
        self.asked += 1
        number = self.asked
        for _ in range(number):
            await asyncio.sleep(0)
        if number == 4:
            self.ended_at = self.asked
            raise self.error
        return ChatReply(f"words of {request.agent} {number}", "stop", 1, 1, 0.0, 0.0)

    async def aclose(self): ...


async def ended(work, chat):
    with pytest.raises(type(chat.error)):
        await work
    for _ in range(50):  # whoever was left over would ask now
        await asyncio.sleep(0)
    assert chat.asked == chat.ended_at
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("error", [AgentDown("gone"), BudgetReached("spent"), LakeError("full")])
def test_no_sibling_of_a_seed_is_asked_after_an_error_that_ends_the_run(error):
    pairs = [Pair(j, k) for j in AGENTS for k in AGENTS]
    plan = [
        PlanRow(
            f"c{n}", "s", n, pair.pair_id, pair.instruction_agent, pair.response_agent, "explore", 0.1, "x", (), (), ()
        )
        for n, pair in enumerate(pairs)
    ]
    prompts = dict.fromkeys(AGENTS, AgentPrompts("rewrite", "respond"))

    async def run():
        chat = Ending(error)
        generator = Generator(chat, PromptLibrary({}), prompts, "answer")
        await ended(generator.candidates(plan, [SEED], SilentProgress()), chat)

    asyncio.run(run())


def test_no_order_and_no_candidate_is_judged_after_an_error_that_ends_the_run():
    def candidate(slot):
        return Candidate(
            f"c{slot}", "s", slot, "a+b", "the question", f"text {slot}", "ok", None, None, 1, 1, 1, 0.0, 0.0
        )

    candidates = [candidate(slot) for slot in range(12)]
    scores = [IfdScore(c.candidate_id, "s", "ok", False, gap=0.1) for c in candidates]

    async def run():
        chat = Ending(AgentDown("gone"))
        judge = Judge(chat, PromptLibrary({}), JudgeRules("j", 3, "tie", False))
        await ended(judge.verdicts(candidates, [SEED], scores, SilentProgress()), chat)

    asyncio.run(run())
