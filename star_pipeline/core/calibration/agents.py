"""Are the agents fit? How many of their rewrites and answers are of use, and what was wrong with the others."""

from collections import Counter
from collections.abc import Collection, Sequence

from star_pipeline.core.calibration.findings import (
    LOST,
    AgentReply,
    CalibrationFinding,
    Subject,
    at_most,
    finding,
)
from star_pipeline.core.intervals import share
from star_pipeline.core.rates import rate
from star_pipeline.core.records import KEEP, SEED, SEED_PAIR, Candidate, Pair, PlanRow

REWRITES: Subject = "instruction agent"
ANSWERS: Subject = "response agent"
OK = "ok"
_LESS = {
    REWRITES: "leave it out of the pairs as an instruction agent, give it another instruction_prompt, or take a larger model",
    ANSWERS: "mend what its error_kind names (max_tokens, reasoning, prompt), or leave it out of the pairs",
}


def agent_replies(plan: Sequence[PlanRow], candidates: Sequence[Candidate]) -> list[AgentReply]:
    """What became of each rewrite and each answer, once each: pairs share them."""
    rewrites: dict[tuple[str, str], AgentReply] = {}
    answers: dict[tuple[str, str, str], AgentReply] = {}
    for row, made in zip(plan, candidates, strict=True):
        if row.pair_id == SEED_PAIR:
            continue
        warnings = made.warnings or ()
        lost = made.status == "failed" and made.instruction is None
        if row.instruction_agent != KEEP:
            kind = (made.error_kind or "failed") if lost else OK
            rewrites.setdefault(
                (row.instruction_agent, made.seed_id),
                AgentReply(row.instruction_agent, REWRITES, made.seed_id, kind, made.error if lost else None),
            )
        if not lost:
            kind = OK if made.status == "ok" else made.error_kind or "failed"
            detail = made.error or "; ".join(warnings) or None
            answers.setdefault(
                (row.response_agent, made.seed_id, made.instruction or ""),
                AgentReply(row.response_agent, ANSWERS, made.seed_id, kind, detail, bool(warnings)),
            )
    return [*rewrites.values(), *answers.values()]


def agent_findings(replies: Sequence[AgentReply], pairs: Collection[Pair]) -> list[CalibrationFinding]:
    """By agent and role: the share that is lost, with the kinds; and the share that is kept with a warning, at most ``doubtful``.

    An agent of the ``pairs`` that these seeds asked nothing of has a line without a figure: it was not measured.
    """
    found = []
    cast = {
        REWRITES: {pair.instruction_agent for pair in pairs if pair != SEED} - {KEEP},
        ANSWERS: {pair.response_agent for pair in pairs if pair != SEED},
    }
    for role in (REWRITES, ANSWERS):
        what = "rewrites" if role == REWRITES else "answers"
        asked = {reply.agent for reply in replies if reply.role == role}
        for agent in sorted(cast[role] - asked):
            unknown = f"not measured: these seeds asked it for no {what}; a larger --count does"
            found.append(finding(role, agent, "lost", None, None, unknown, None))
        for agent in sorted(asked):
            mine = [reply for reply in replies if (reply.role, reply.agent) == (role, agent)]
            kinds = Counter(reply.kind for reply in mine if reply.kind != OK)
            lost = share(sum(kinds.values()), len(mine))
            told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
            found.append(
                finding(
                    role,
                    agent,
                    "lost",
                    lost,
                    at_most(lost, LOST),
                    f"{rate(sum(kinds.values()), len(mine))} {what} are of no use" + (f": {told}" if told else ""),
                    f"{agent} as {role}: what is lost is paid all the same; {_LESS[role]}",
                )
            )
            warned = share(sum(reply.warned for reply in mine), len(mine))
            if warned and warned.figure:
                verdict = at_most(warned, LOST)
                found.append(
                    finding(
                        role,
                        agent,
                        "warned",
                        warned,
                        "doubtful" if verdict == "unfit" else verdict,
                        f"{rate(sum(reply.warned for reply in mine), len(mine))} {what} are kept with a warning",
                        "read them: agent_replies.parquet says which, and why",
                    )
                )
    return found
