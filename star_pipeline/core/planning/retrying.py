"""Which failed rows a later run tries again: those whose failure may pass, or was the agent's and not the row's. Pure decisions."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from star_pipeline.core.aliases import JsonMapping
from star_pipeline.core.records import KEEP, SEED_PAIR, Candidate, JudgeVerdict, Pair

MAY_PASS = frozenset(
    {
        *("authentication", "permission", "quota", "not_found", "redirected"),  # the agent's, until somebody mends it
        *("rate_limit", "connection", "timeout", "unavailable", "server_error", "broken_off"),  # tries were used up
        *("batch_expired", "batch_cancelled", "batch_failed", "batch_lost"),
        # only where the rows tell that they are not the request's or the reply's own
        *("bad_request", "malformed_reply"),
    }
)
"""Kinds of failed calls after which no reply is in the journal. What a model made of a request, such as an echo, stays as it is."""
_KIND = re.compile(r"(?:^|; )([a-z_]+): ")


def candidates_to_try(rows: Sequence[Candidate]) -> Counter[tuple[str, str]]:
    """(agent, kind) -> how many candidates failed so. A refused request is the agent's failure where it answered none of the rows."""
    answered = answering(rows)
    found = Counter[tuple[str, str]]()
    for row in rows:
        if row.status == "ok" or row.error_kind not in MAY_PASS:
            continue
        pair = Pair.parse(row.pair_id)
        agent = pair.instruction_agent if row.instruction is None else pair.response_agent
        paid = row.prompt_tokens + row.completion_tokens
        paid -= row.rewrite_prompt_tokens + row.rewrite_completion_tokens if row.instruction is not None else 0
        if row.error_kind == "bad_request" and agent in answered:
            continue
        if row.error_kind == "malformed_reply" and paid:
            continue
        found[agent, str(row.error_kind)] += 1
    return found


def answering(rows: Sequence[Candidate]) -> set[str]:
    """The agents that answered something, also where it was of no use, and so were paid."""
    answered = set[str]()
    for row in rows:
        pair = Pair.parse(row.pair_id)
        if row.instruction is not None:
            answered.add(pair.instruction_agent)
        if row.status == "ok" or (row.instruction is not None and row.error_kind not in MAY_PASS):
            answered.add(pair.response_agent)
        if row.instruction is None and row.error_kind not in MAY_PASS:
            answered.add(pair.instruction_agent)
    return answered


def verdicts_to_try(rows: Sequence[JudgeVerdict]) -> Counter[tuple[str, str]]:
    """The same for comparisons that came to no verdict because the judge could not be asked."""
    answered = any(row.reply_first is not None or row.reply_swapped is not None for row in rows)
    found = Counter[tuple[str, str]]()
    for row in rows:
        kinds = set(_KIND.findall(row.error or "")) & MAY_PASS if row.verdict == "failed" else set()
        kinds -= {"bad_request"} if answered else set()
        if kinds:
            found[row.judge_agent or "", min(kinds)] += 1
    return found


def pays_nothing_twice(before: JsonMapping | None, now: JsonMapping, agents: Iterable[str]) -> bool:
    """Whether what these agents were asked under the settings ``before`` is asked in the same words ``now``: the journal has it."""
    if before is None:
        return False
    same = all(before.get(name) == now.get(name) for name in ("pairs", "prompts", "judge"))
    same = same and (before.get("sampling") or {}).get("response_mode") == now["sampling"]["response_mode"]
    old, new = before.get("agents") or {}, now["agents"]
    return same and all(old.get(name) == new.get(name) for name in set(agents) - {KEEP, SEED_PAIR})


def in_words(found: Mapping[tuple[str, str], int]) -> str:
    """``agent: 3 timeout, 1 quota; …``"""
    told: dict[str, list[str]] = {}
    for (agent, kind), count in sorted(found.items()):
        told.setdefault(agent, []).append(f"{count:,} {kind}")
    return "; ".join(f"{agent}: {', '.join(kinds)}" for agent, kinds in told.items())
