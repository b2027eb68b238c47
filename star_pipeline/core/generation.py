"""Eq. 2: I' = A_I(I), R' = A_R(I'). Every planned candidate ends as a row, made or failed with its reason."""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from star_pipeline.core.errors import CallError, ConfigError
from star_pipeline.core.identity import is_unicode
from star_pipeline.core.ports import ChatModel, ChatReply, ChatRequest, Progress
from star_pipeline.core.prompts import PromptLibrary
from star_pipeline.core.records import KEEP, SEED_PAIR, Candidate, PlanRow, Seed

T = TypeVar("T")


@dataclass(frozen=True)
class AgentPrompts:
    """The templates that an agent uses in either role."""

    instruction_prompt: str
    response_prompt: str


@dataclass(frozen=True)
class _Made:
    """A text, or the reason why there is none; ``replies`` are the calls it took."""

    text: str | None
    replies: tuple[ChatReply, ...] = ()
    kind: str | None = None
    error: str | None = None
    attempts: int = 0


def check_reply(reply: ChatReply, *inputs: str) -> tuple[str, str] | None:
    """(kind, message) where a reply is no candidate: empty, cut off by the length limit, or an echo of an input."""
    text = " ".join(reply.text.split())
    if not text:
        return "empty_reply", "the reply is empty"
    if not is_unicode(reply.text):
        return "malformed_reply", "the reply holds half a character (a lone surrogate)"
    if reply.finish_reason == "length":
        return (
            "cut_off",
            f"the reply was cut off at {reply.completion_tokens} tokens; raise the agent's params.max_tokens",
        )
    if any(text == " ".join(given.split()) for given in inputs):
        return "echo", "the reply repeats its input"
    return None


async def gather_all(work: Iterable[Awaitable[T]]) -> list[T]:
    """Results in order. The first error ends the rest at once, so that nothing more is asked and paid."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


class Generator:
    """Makes the candidates of seeds with the agents behind ``chat``."""

    def __init__(
        self,
        chat: ChatModel,
        prompts: PromptLibrary,
        agents: Mapping[str, AgentPrompts],
        response_mode: Literal["answer", "refine"],
    ) -> None:
        self._chat = chat
        self._prompts = prompts
        self._agents = agents
        self._mode = response_mode

    async def candidates(self, plan: Sequence[PlanRow], seeds: Sequence[Seed], progress: Progress) -> list[Candidate]:
        """One candidate for every row of the plan, in its order; all seeds at once, the agents' limits queue them."""
        rows_of: dict[str, list[PlanRow]] = {}
        for row in plan:
            for agent in {row.instruction_agent, row.response_agent} - {KEEP, SEED_PAIR, *self._agents}:
                raise ConfigError(
                    f"seed {row.seed_id}: its plan calls agent {agent!r}, which the configuration no longer has; put it back, or "
                    "make the shard's sampling_plan again"
                )
            rows_of.setdefault(row.seed_id, []).append(row)

        async def one(seed: Seed) -> list[Candidate]:
            made = await self._seed_candidates(seed, rows_of.get(seed.seed_id, []))
            progress.advance(len(made))
            return made

        progress.stage("candidates", len(plan))
        return [candidate for made in await gather_all(map(one, seeds)) for candidate in made]

    async def _seed_candidates(self, seed: Seed, rows: Sequence[PlanRow]) -> list[Candidate]:
        rewritten = {
            agent: asyncio.ensure_future(self._rewrite(agent, seed))
            for agent in dict.fromkeys(row.instruction_agent for row in rows)
            if agent != KEEP
        }
        payer = {agent: min(row.slot for row in rows if row.instruction_agent == agent) for agent in rewritten}
        return list(
            await asyncio.gather(
                *(self._candidate(seed, row, rewritten, payer.get(row.instruction_agent) == row.slot) for row in rows)
            )
        )

    async def _candidate(
        self, seed: Seed, row: PlanRow, rewritten: Mapping[str, asyncio.Future[_Made]], pays: bool
    ) -> Candidate:
        if row.pair_id == SEED_PAIR:
            failed = None if seed.response.strip() else ("empty_seed", "the seed has no response of its own")
            return _candidate_row(
                row, seed.instruction, _Made(None if failed else seed.response, (), *(failed or ())), ()
            )
        instruction = _Made(seed.instruction)
        calls: tuple[_Made, ...] = ()
        if row.instruction_agent != KEEP:
            instruction = await rewritten[row.instruction_agent]
            calls = (instruction,) if pays else ()  # shared by several pairs, booked on the lowest slot
        if instruction.text is None:
            reason = f"{row.instruction_agent} made no instruction: {instruction.error}"
            return _candidate_row(row, None, _Made(None, (), instruction.kind, reason), calls)
        response = await self._respond(row.response_agent, seed, instruction.text)
        return _candidate_row(row, instruction.text, response, (*calls, response))

    async def _rewrite(self, agent: str, seed: Seed) -> _Made:
        template = self._agents[agent].instruction_prompt
        variables = {"system": seed.system, "history": seed.history, "instruction": seed.instruction}
        return await self._ask(agent, template, variables, (), (seed.instruction,))

    async def _respond(self, agent: str, seed: Seed, instruction: str) -> _Made:
        refine = self._mode == "refine" and bool(seed.response.strip())
        template = "refine" if refine else self._agents[agent].response_prompt
        variables = {"system": seed.system, "history": seed.history, "instruction": instruction, "draft": seed.response}
        return await self._ask(
            agent, template, variables, seed.history, (instruction, *((seed.response,) if refine else ()))
        )

    async def _ask(
        self,
        agent: str,
        template: str,
        variables: Mapping[str, object],
        between: tuple[object, ...],
        inputs: tuple[str, ...],
    ) -> _Made:
        messages = self._prompts.messages(template, variables, between)  # type: ignore[arg-type]
        request = ChatRequest(agent, messages, template, self._prompts.version(template))
        try:
            reply = await self._chat.complete(request)
        except CallError as error:
            return _Made(None, (), error.kind, f"{agent}: {error}", error.attempts)
        kind, error_text = check_reply(reply, *inputs) or (None, None)
        if kind:
            return _Made(None, (reply,), kind, f"{agent}: {error_text}", reply.attempts)
        return _Made(reply.text.strip(), (reply,), attempts=reply.attempts)


def _candidate_row(row: PlanRow, instruction: str | None, response: _Made, calls: tuple[_Made, ...]) -> Candidate:
    replies = [reply for call in calls for reply in call.replies]
    return Candidate(
        candidate_id=row.candidate_id,
        seed_id=row.seed_id,
        slot=row.slot,
        pair_id=row.pair_id,
        instruction=instruction,
        response=response.text,
        status="failed" if response.text is None else "ok",
        error_kind=response.kind,
        error=response.error,
        attempts=sum(call.attempts for call in calls),
        prompt_tokens=sum(reply.prompt_tokens for reply in replies),
        completion_tokens=sum(reply.completion_tokens for reply in replies),
        cost_usd=sum(reply.cost_usd for reply in replies),
        latency_s=sum(reply.latency_s for reply in replies),
    )
