"""Eq. 2: I' = A_I(I), R' = A_R(I'). Every planned candidate ends as a row, made or failed with its reason."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from star_pipeline.core import identity
from star_pipeline.core.equations.prompts import PromptLibrary, wording_of
from star_pipeline.core.equations.replies import read_reply
from star_pipeline.core.equations.response_checks import Check, check_response
from star_pipeline.core.equations.rewrite_checks import check_rewrite
from star_pipeline.core.equations.unwrapping import unwrapped_instruction, unwrapped_response
from star_pipeline.core.errors import CallError, ConfigError, StarError
from star_pipeline.core.ports import ChatModel, ChatReply, ChatRequest, Progress
from star_pipeline.core.records import KEEP, SEED_PAIR, Candidate, Message, PlanRow, Seed

T = TypeVar("T")
ResponseMode = Literal["answer", "refine"]


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
    warnings: tuple[str, ...] = ()

    @property
    def booked(self) -> tuple[ChatReply, ...]:
        return tuple(reply for reply in self.replies if reply.booked)


@dataclass(frozen=True)
class _Reader:
    """How a reply to one request is read: what it may not repeat, what is taken off it, and what its text is checked for."""

    inputs: tuple[str, ...]
    unwrap: Callable[[str], str]
    check: Callable[[str, tuple[str, ...]], Check]


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


class UntilItEnds:
    """A chat model that asks nothing more once a request has ended the run: a few turns pass until all are told, and each may cost."""

    def __init__(self, chat: ChatModel) -> None:
        self._chat = chat
        self._ended: StarError | None = None

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Raises CallError like the model itself, and what has ended the run, again and again."""
        if self._ended:
            raise type(self._ended)(str(self._ended))
        try:
            return await self._chat.complete(request)
        except CallError:
            raise
        except StarError as error:
            self._ended = self._ended or error
            raise


class Generator:
    """Makes the candidates of seeds with the agents behind ``chat``."""

    def __init__(
        self,
        chat: ChatModel,
        prompts: PromptLibrary,
        agents: Mapping[str, AgentPrompts],
        response_mode: ResponseMode,
    ) -> None:
        self._chat = UntilItEnds(chat)
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

    async def rewrite(self, agents: Sequence[str], seeds: Sequence[Seed]) -> None:
        """Let each agent rewrite each seed's instruction, for candidates that are made later."""
        await gather_all(self._rewrite(agent, seed) for seed in seeds for agent in agents)

    async def _seed_candidates(self, seed: Seed, rows: Sequence[PlanRow]) -> list[Candidate]:
        """Pairs that share an instruction agent share its rewriting, and those that ask one agent the same share its answer."""
        rewritten: dict[str, asyncio.Future[_Made]] = {}
        answered: dict[tuple[str, str], asyncio.Future[_Made]] = {}

        async def make(row: PlanRow) -> tuple[_Made, _Made | None]:
            if row.pair_id == SEED_PAIR:
                failed = None if seed.response.strip() else ("empty_seed", "the seed has no response of its own")
                return _Made(seed.instruction), _Made(None if failed else seed.response, (), *(failed or ()))
            instruction = _Made(seed.instruction)
            if row.instruction_agent != KEEP:
                if row.instruction_agent not in rewritten:
                    rewritten[row.instruction_agent] = asyncio.ensure_future(self._rewrite(row.instruction_agent, seed))
                instruction = await rewritten[row.instruction_agent]
            if instruction.text is None:
                return instruction, None
            question = (row.response_agent, instruction.text)
            if question not in answered:
                answered[question] = asyncio.ensure_future(self._respond(*question, seed))
            return instruction, await answered[question]

        made = await gather_all(map(make, rows))
        booked: set[int] = set()
        return [_candidate_row(row, *made[number], booked) for number, row in enumerate(rows)]

    async def _rewrite(self, agent: str, seed: Seed) -> _Made:
        template = self._agents[agent].instruction_prompt
        variables = {"system": seed.system, "history": seed.history, "instruction": seed.instruction}
        purpose = f"{seed.seed_id}/{agent}"

        def checked(made: str, wording: tuple[str, ...]) -> Check:
            return check_rewrite(seed.instruction, made, template, wording, template not in self._prompts.overrides)

        read = _Reader((seed.instruction,), lambda text: unwrapped_instruction(text, seed.instruction), checked)
        return await self._ask(agent, template, variables, (), read, "rewrite", purpose)

    async def _respond(self, agent: str, instruction: str, seed: Seed) -> _Made:
        refine = self._mode == "refine" and bool(seed.response.strip())
        template = "refine" if refine else self._agents[agent].response_prompt
        variables = {"system": seed.system, "history": seed.history, "instruction": instruction, "draft": seed.response}
        inputs = (instruction, *((seed.response,) if refine else ()))
        purpose = f"{seed.seed_id}/{agent}/{identity.digest(instruction)}"

        def checked(made: str, wording: tuple[str, ...]) -> Check:
            return check_response(instruction, made)

        read = _Reader(inputs, lambda text: unwrapped_response(text, instruction), checked)
        return await self._ask(agent, template, variables, seed.history, read, "respond", purpose)

    async def _ask(
        self,
        agent: str,
        template: str,
        variables: Mapping[str, object],
        between: tuple[Message, ...],
        reader: _Reader,
        stage: str,
        purpose: str,
    ) -> _Made:
        messages = self._prompts.messages(template, variables, between)
        version = self._prompts.version(template)
        request = ChatRequest(agent, messages, template, version, stage=stage, purpose=f"{stage}/{purpose}")
        try:
            reply = await self._chat.complete(request)
        except CallError as error:
            return _Made(None, (), error.kind, f"{agent}: {error}", error.attempts)
        attempts = reply.attempts if reply.booked else 0
        read = read_reply(reply, *reader.inputs, unwrap=reader.unwrap)
        if read.text is None:
            return _Made(None, (reply,), read.kind, f"{agent}: {read.reason}", attempts)
        check = reader.check(read.text, wording_of(messages, variables))
        if check.kind:
            return _Made(None, (reply,), check.kind, f"{agent}: {check.reason}", attempts)
        return _Made(read.text, (reply,), attempts=attempts, warnings=check.warnings)


def _candidate_row(row: PlanRow, instruction: _Made, response: _Made | None, booked: set[int]) -> Candidate:
    """What several candidates share is booked on the first of them; ``booked`` remembers it."""
    if response is None:
        reason = f"{row.instruction_agent} made no instruction: {instruction.error}"
        response = _Made(None, (), instruction.kind, reason)
    rewriting, answering = (call if id(call) not in booked else _Made(None) for call in (instruction, response))
    booked.update((id(instruction), id(response)))
    replies = rewriting.booked + answering.booked
    return Candidate(
        candidate_id=row.candidate_id,
        seed_id=row.seed_id,
        slot=row.slot,
        pair_id=row.pair_id,
        instruction=instruction.text,
        response=response.text,
        status="failed" if response.text is None else "ok",
        error_kind=response.kind,
        error=response.error,
        attempts=rewriting.attempts + answering.attempts,
        prompt_tokens=sum(reply.prompt_tokens for reply in replies),
        completion_tokens=sum(reply.completion_tokens for reply in replies),
        cost_usd=sum(reply.cost_usd for reply in replies),
        latency_s=sum(reply.latency_s for reply in replies),
        rewrite_attempts=rewriting.attempts,
        rewrite_prompt_tokens=sum(reply.prompt_tokens for reply in rewriting.booked),
        rewrite_completion_tokens=sum(reply.completion_tokens for reply in rewriting.booked),
        rewrite_cost_usd=sum(reply.cost_usd for reply in rewriting.booked),
        warnings=(*instruction.warnings, *response.warnings) or None,
    )
