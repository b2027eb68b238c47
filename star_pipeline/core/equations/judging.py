"""Eq. 6: a judge LLM compares each candidate with the reference of its seed, in both orders."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from star_pipeline.core import identity
from star_pipeline.core.aliases import JsonMapping
from star_pipeline.core.equations.generation import UntilItEnds, gather_all
from star_pipeline.core.equations.prompts import PromptLibrary
from star_pipeline.core.equations.replies import is_whole, read_reply
from star_pipeline.core.equations.verdicts import OnReversal, combine, outcome, parse_verdict
from star_pipeline.core.errors import CallError
from star_pipeline.core.ports import ChatModel, ChatReply, ChatRequest, Progress
from star_pipeline.core.records import SEED_PAIR, Candidate, IfdScore, JudgeVerdict, Outcome, Seed, Verdict


@dataclass(frozen=True)
class JudgeRules:
    """What Eq. 6 needs of a configuration; ``attempts`` is the number of tries per order to get a readable verdict.

    ``optional`` names those of ``params`` that are only defaults: a judge that refuses them goes without.
    """

    agent: str
    attempts: int
    on_reversal: OnReversal
    skip_nonpositive_gap: bool
    params: JsonMapping = field(default_factory=dict)
    optional: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reference:
    """What a seed's candidates are compared with; ``candidate_id`` is None where it is the seed's own text, no candidate."""

    candidate_id: str | None
    instruction: str
    response: str


@dataclass(frozen=True)
class _Order:
    """The judge's last word in one order; ``result`` is None where it said nothing readable or the call failed."""

    result: Outcome | None
    replies: tuple[ChatReply, ...]
    attempts: int
    error: str | None = None

    @property
    def booked(self) -> list[ChatReply]:
        return [reply for reply in self.replies if reply.booked]

    def shared(self) -> "_Order":
        """The same for a candidate that did not have to ask."""
        return replace(self, replies=tuple(replace(reply, booked=False) for reply in self.replies), attempts=0)

    @property
    def why_not(self) -> str | None:
        """What is wrong with the last reply, whatever it was to say: cut off, empty, reasoning alone."""
        return read_reply(self.replies[-1]).reason if self.replies else None

    @property
    def text(self) -> str | None:
        # a lone surrogate cannot be written
        return self.replies[-1].text.encode("utf-8", "replace").decode() if self.replies else None


_Asked = dict[tuple[str, str | None, str | None], "asyncio.Future[list[_Order]]"]
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
    """(calls, USD) that ``skip_nonpositive_gap`` saved: two for each candidate that has a gap and was not judged.

    The USD are an estimate: what the judged candidates of the same shard cost on average.
    """
    gaps = {score.candidate_id: score.gap for score in scores}
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
        gaps = {score.candidate_id: score.gap for score in scores}
        reference_of = references(candidates, seeds)
        judged = [
            c
            for c in candidates
            if c.status == "ok" and c.candidate_id != getattr(reference_of[c.seed_id], "candidate_id", None)
        ]
        progress.stage("judge verdicts", len(judged))
        asked: _Asked = {}

        async def one(candidate: Candidate) -> JudgeVerdict:
            gap = gaps[candidate.candidate_id]
            verdict = await self._verdict(
                candidate, seed_by_id[candidate.seed_id], reference_of[candidate.seed_id], gap, asked
            )
            progress.advance()
            return verdict

        return await gather_all(map(one, judged))

    async def _verdict(
        self, candidate: Candidate, seed: Seed, reference: Reference | None, gap: float | None, asked: "_Asked"
    ) -> JudgeVerdict:
        if gap is None or (self._rules.skip_nonpositive_gap and gap <= 0):
            return _row(candidate, reference, None, "skipped", False, None, (), None)
        if reference is None:
            reason = "nothing to compare with: the reference failed and the seed has no response"
            return _row(candidate, None, None, "failed", False, None, (), reason)
        template = "judge_answers" if candidate.instruction == reference.instruction else "judge_samples"
        # candidates of one text are judged once; the first in the table's order begins first, and bears the cost
        key = (candidate.seed_id, candidate.instruction, candidate.response)
        shared = key in asked
        if not shared:
            orders = (self._ask(candidate, seed, reference, template, side) for side in _SIDES)
            asked[key] = asyncio.ensure_future(gather_all(orders))
        first, swapped = await asked[key]
        if shared:
            first, swapped = first.shared(), swapped.shared()
        row = partial(_row, judge_agent=self._rules.agent)
        errors = "; ".join(dict.fromkeys(order.error for order in (first, swapped) if order.error)) or None
        if errors:
            return row(candidate, reference, template, "failed", False, None, (first, swapped), errors)
        if first.result is None or swapped.result is None:
            told = dict.fromkeys(order.why_not for order in (first, swapped) if order.result is None and order.why_not)
            expected = "; ".join(told) or "expected [A], [B] or [C] at the end"
            reason = f"no verdict in {self._rules.attempts} replies; {expected}"
            return row(candidate, reference, template, "unparsed", False, None, (first, swapped), reason)
        verdict, flipped, pi_llm = combine(first.result, swapped.result, self._rules.on_reversal)
        return row(candidate, reference, template, verdict, flipped, pi_llm, (first, swapped), None)

    async def _ask(
        self, candidate: Candidate, seed: Seed, reference: Reference, template: str, candidate_is: Literal["A", "B"]
    ) -> _Order:
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
        replies: list[ChatReply] = []
        attempts = 0
        for sample in range(self._rules.attempts):
            request = ChatRequest(
                self._rules.agent,
                messages,
                template,
                self._prompts.version(template),
                dict(self._rules.params),
                sample,
                stage="judge",
                purpose=f"judge/{seed.seed_id}/{texts}/{candidate_is}/{sample}",
                optional=self._rules.optional,
            )
            try:
                reply = await self._chat.complete(request)
            except CallError as error:
                return _Order(None, tuple(replies), attempts + error.attempts, f"{error.kind}: {error}")
            replies.append(reply)
            attempts += reply.attempts if reply.booked else 0
            # a reply that did not come to its end has not come to its verdict, whatever letters it quotes
            choice = parse_verdict(reply.text) if is_whole(reply.finish_reason) else None
            if choice:
                return _Order(outcome(choice, candidate_is), tuple(replies), attempts)
        return _Order(None, tuple(replies), attempts)


def _row(
    candidate: Candidate,
    reference: Reference | None,
    template: str | None,
    verdict: Verdict,
    flipped: bool,
    pi_llm: float | None,
    orders: tuple[_Order, ...],
    error: str | None,
    judge_agent: str | None = None,
) -> JudgeVerdict:
    first, swapped = orders or (None, None)
    replies = [reply for order in orders for reply in order.booked]
    return JudgeVerdict(
        candidate_id=candidate.candidate_id,
        seed_id=candidate.seed_id,
        base_candidate_id=reference.candidate_id if reference else None,
        template=template,
        judge_agent=judge_agent,
        verdict=verdict,
        verdict_first=first.result if first else None,
        verdict_swapped=swapped.result if swapped else None,
        flipped=flipped,
        pi_llm=pi_llm,
        reply_first=first.text if first else None,
        reply_swapped=swapped.text if swapped else None,
        error=error,
        attempts=sum(order.attempts for order in orders),
        prompt_tokens=sum(reply.prompt_tokens for reply in replies),
        completion_tokens=sum(reply.completion_tokens for reply in replies),
        cost_usd=sum(reply.cost_usd for reply in replies),
    )
