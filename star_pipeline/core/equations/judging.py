"""Eq. 6: a judge LLM compares each candidate with the reference of its seed, in both orders."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from star_pipeline.core import identity
from star_pipeline.core.aliases import JsonMapping, JsonObject
from star_pipeline.core.equations.generation import UntilItEnds, gather_all
from star_pipeline.core.equations.judge_modes import MOST_TOLD, TEMPLATE_ENDS, JudgeMode, hear, mode_params
from star_pipeline.core.equations.opinions import Order, opinion, together
from star_pipeline.core.equations.prompts import PromptLibrary
from star_pipeline.core.equations.verdicts import OnReversal, Ties
from star_pipeline.core.errors import CallError
from star_pipeline.core.ports import ChatModel, ChatRequest, Progress
from star_pipeline.core.records import SEED_PAIR, Candidate, IfdScore, JudgeVerdict, Seed, Verdict


@dataclass(frozen=True)
class JudgeRules:
    """What Eq. 6 needs of a configuration; ``attempts`` is the number of tries per order to get a readable verdict.

    ``optional`` names those of ``params`` that are only defaults: a judge that refuses them goes without. ``margin`` (log-odds)
    and ``soft`` matter with ``logprobs`` alone. ``others`` judge beside ``agent``: the majority decides. A tie's
    pi_llm is 0.5, or 0 where ``ties`` lose.
    """

    agent: str
    attempts: int
    on_reversal: OnReversal
    skip_nonpositive_gap: bool
    params: JsonMapping = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    mode: JudgeMode = "written"
    margin: float = 0.0
    soft: bool = False
    others: tuple[str, ...] = ()
    ties: Ties = "half"

    @property
    def agents(self) -> tuple[str, ...]:
        return (self.agent, *self.others)

    @property
    def request_params(self) -> JsonObject:
        """What is sent with a request, over the agent's own params."""
        told = {"top_logprobs": MOST_TOLD} if self.mode == "logprobs" else {}
        return {**told, **self.params, **mode_params(self.mode)}

    @property
    def tries(self) -> int:
        """Asked again, a model gives the same probabilities."""
        return 1 if self.mode == "logprobs" else self.attempts


@dataclass(frozen=True)
class Reference:
    """What a seed's candidates are compared with; ``candidate_id`` is None where it is the seed's own text, no candidate."""

    candidate_id: str | None
    instruction: str
    response: str


_Orders = dict[tuple[str, str | None, str | None], "asyncio.Future[list[Order]]"]
_SIDES: tuple[Literal["A", "B"], ...] = ("A", "B")


def references(candidates: Sequence[Candidate], seeds: Sequence[Seed]) -> dict[str, Reference | None]:
    """seed_id -> reference: slot 0; where its generation failed, the seed's own response; None where that is empty too."""
    rows_of: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        rows_of.setdefault(candidate.seed_id, []).append(candidate)
    found: dict[str, Reference | None] = {}
    for seed in seeds:
        rows = rows_of.get(seed.seed_id, [])
        own = [row for row in rows if row.pair_id == SEED_PAIR]
        usable = [row for row in (*sorted(rows, key=lambda row: row.slot)[:1], *own) if row.status == "ok"]
        if usable:
            row = usable[0]
            found[seed.seed_id] = Reference(row.candidate_id, row.instruction or "", row.response or "")
        else:
            found[seed.seed_id] = Reference(None, seed.instruction, seed.response) if seed.response.strip() else None
    return found


def calls_saved(verdicts: Sequence[JudgeVerdict], scores: Sequence[IfdScore]) -> tuple[int, float]:
    """(calls, USD) that ``skip_nonpositive_gap`` saved: two a judge for each candidate that has a gap and was not judged.

    The USD are an estimate: what the judged candidates of the same shard cost on average.
    """
    gaps = {score.candidate_id: score.working_gap for score in scores}
    skipped = sum(row.verdict == "skipped" and gaps[row.candidate_id] is not None for row in verdicts)
    paid = [row.cost_usd for row in verdicts if row.attempts]
    return 2 * skipped, skipped * sum(paid) / len(paid) if paid else 0.0


def reference_ids(candidates: Sequence[Candidate], seeds: Sequence[Seed]) -> dict[str, str | None]:
    """seed_id -> candidate_id of its reference; None where the seed's own text is, or nothing."""
    return {seed: ref.candidate_id if ref else None for seed, ref in references(candidates, seeds).items()}


class Judge:
    """Asks the judge agent behind ``chat``."""

    def __init__(self, chat: ChatModel, prompts: PromptLibrary, rules: JudgeRules) -> None:
        self._chat = UntilItEnds(chat)
        self._prompts = prompts
        self._rules = rules

    async def verdicts(
        self, candidates: Sequence[Candidate], seeds: Sequence[Seed], scores: Sequence[IfdScore], progress: Progress
    ) -> list[JudgeVerdict]:
        """One row for every candidate that was made and is not the reference, in the candidates' order."""
        seed_by_id = {seed.seed_id: seed for seed in seeds}
        gaps = {score.candidate_id: score.working_gap for score in scores}
        reference_of = references(candidates, seeds)
        judged = [candidate for candidate in candidates if _is_judged(candidate, reference_of[candidate.seed_id])]
        progress.stage("judge verdicts", len(judged))
        asked: _Orders = {}

        async def one(candidate: Candidate) -> JudgeVerdict:
            gap = gaps[candidate.candidate_id]
            verdict = await self._verdict(
                candidate, seed_by_id[candidate.seed_id], reference_of[candidate.seed_id], gap, asked
            )
            progress.advance()
            return verdict

        return await gather_all(map(one, judged))

    async def verdict(
        self, candidate: Candidate, of_seed: Sequence[Candidate], seed: Seed, score: IfdScore
    ) -> JudgeVerdict | None:
        """The same of one candidate, as soon as ``of_seed``, all of its seed's, are made and it is scored; None where it has no row."""
        reference = references(of_seed, [seed])[seed.seed_id]
        if not _is_judged(candidate, reference):
            return None
        return await self._verdict(candidate, seed, reference, score.working_gap, {})

    async def _verdict(
        self, candidate: Candidate, seed: Seed, reference: Reference | None, gap: float | None, asked: _Orders
    ) -> JudgeVerdict:
        if gap is None or (self._rules.skip_nonpositive_gap and gap <= 0):
            return _unasked(candidate, reference, "skipped", None)
        if reference is None:
            reason = "nothing to compare with: the reference failed and the seed has no response"
            return _unasked(candidate, None, "failed", reason)
        same = candidate.instruction == reference.instruction
        template = ("judge_answers" if same else "judge_samples") + TEMPLATE_ENDS[self._rules.mode]
        # candidates of one text are judged once; the first in the table's order begins first, and bears the cost
        key = (candidate.seed_id, candidate.instruction, candidate.response)
        shared = key in asked
        if not shared:
            orders = (
                self._ask(agent, candidate, seed, reference, template, side)
                for agent in self._rules.agents
                for side in _SIDES
            )
            asked[key] = asyncio.ensure_future(gather_all(orders))
        heard = [order.shared() if shared else order for order in await asked[key]]
        rules, agents = self._rules, self._rules.agents
        opinions = [
            opinion(agent, heard[2 * place], heard[2 * place + 1], rules.on_reversal, rules.margin, rules.tries)
            for place, agent in enumerate(agents)
        ]
        decided = (rules.on_reversal, rules.soft, rules.ties)
        return together(candidate, reference.candidate_id, template, opinions, *decided)

    async def _ask(
        self,
        agent: str,
        candidate: Candidate,
        seed: Seed,
        reference: Reference,
        template: str,
        candidate_is: Literal["A", "B"],
    ) -> Order:
        pairs = [(candidate.instruction, candidate.response), (reference.instruction, reference.response)]
        (question_a, answer_a), (question_b, answer_b) = pairs if candidate_is == "A" else reversed(pairs)
        texts = identity.digest(pairs)
        messages = self._prompts.messages(
            template,
            {
                "system": seed.system,
                "history": seed.history,
                "question": candidate.instruction,
                "question_a": question_a,
                "answer_a": answer_a,
                "question_b": question_b,
                "answer_b": answer_b,
            },
        )
        order = Order()
        for sample in range(self._rules.tries):
            request = ChatRequest(
                agent,
                messages,
                template,
                self._prompts.version(template),
                self._rules.request_params,
                sample,
                stage="judge",
                purpose=f"judge/{seed.seed_id}/{texts}/{candidate_is}/{sample}",
                optional=self._rules.optional,
            )
            try:
                reply = await self._chat.complete(request)
            except CallError as error:
                return order.broken(error)
            order = order.after(reply, hear(self._rules.mode, reply, candidate_is, self._rules.margin))
            if order.heard.result:
                return order
        return order


def _is_judged(candidate: Candidate, reference: Reference | None) -> bool:
    return candidate.status == "ok" and not (reference and reference.candidate_id == candidate.candidate_id)


def _unasked(candidate: Candidate, reference: Reference | None, verdict: Verdict, error: str | None) -> JudgeVerdict:
    return JudgeVerdict(
        candidate.candidate_id, candidate.seed_id, reference.candidate_id if reference else None, None, verdict,
        None, None, False, None, None, None, error, 0, 0, 0, 0.0,
    )  # fmt: skip  # a column's value each, in the table's order
