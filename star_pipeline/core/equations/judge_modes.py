"""Eq. 6: the ways to put the question to a judge, and what its reply says in each.

``written``: a comparison in words, then [A], [B] or [C]. ``json``: the same as one JSON object. ``logprobs``: one token, of which the
probabilities of A and of B are read; subtracted between the two orders, a lean on position cancels.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from star_pipeline.core.aliases import JsonMapping, JsonObject
from star_pipeline.core.equations.replies import is_whole, read_reply
from star_pipeline.core.equations.reply_cleaning import spoken
from star_pipeline.core.equations.verdicts import CHOICES, Choice, outcome, parse_verdict
from star_pipeline.core.ports import ChatReply
from star_pipeline.core.records import Outcome

JudgeMode = Literal["written", "json", "logprobs"]
TEMPLATE_ENDS: Mapping[JudgeMode, str] = {"written": "", "json": "_json", "logprobs": "_letter"}
MOST_TOLD = 20
"""Alternatives of a token that are asked for: as many as OpenAI tells."""
_LEAST = 1e-10
_MARKS = " \t\r\n\u2581\u0120[](){}<>*_`#'\".:“”‘’"
"""What may stand around a letter in a token of its own: blanks as tokenizers write them, brackets, markup."""
_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.DOTALL | re.IGNORECASE)
_SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"comparison": {"type": "string"}, "verdict": {"type": "string", "enum": list(CHOICES)}},
    "required": ["comparison", "verdict"],
    "additionalProperties": False,
}
_FORMAT: JsonObject = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": _SCHEMA}}


def mode_params(mode: JudgeMode) -> JsonObject:
    """What a request needs in this mode, whatever else is set for the judge."""
    if mode == "logprobs":
        return {"max_tokens": 1, "logprobs": True}
    return {"response_format": _FORMAT} if mode == "json" else {}


def judge_mode(params: JsonMapping) -> JudgeMode:
    """The mode of a request to a judge, by its parameters."""
    return "logprobs" if params.get("logprobs") else "json" if params.get("response_format") == _FORMAT else "written"


@dataclass(frozen=True)
class Heard:
    """What a reply says of the candidate; ``why_not`` where it says nothing. ``log_odds`` is log p(A) - log p(B)."""

    result: Outcome | None
    log_odds: float | None = None
    why_not: str | None = None


def hear(mode: JudgeMode, reply: ChatReply, candidate_is: Literal["A", "B"], margin: float) -> Heard:
    """Read a judge's reply, in which the candidate was shown as A or as B; ``margin`` as in ``by_margin``."""
    if mode == "logprobs":
        odds = letter_log_odds(reply.top_logprobs)
        if odds is None:
            told = ", ".join(repr(token) for token, _ in reply.top_logprobs[:5])
            seen = f"the likeliest are {told}" if told else "the reply tells no log-probabilities"
            return Heard(None, None, f"neither A nor B is among the likeliest first tokens ({seen})")
        return Heard(by_margin(odds if candidate_is == "A" else -odds, margin), odds)
    # a reply that did not come to its end has not come to its verdict, whatever letters it quotes
    whole = is_whole(reply.finish_reason)
    choice = (parse_verdict if mode == "written" else parse_structured)(reply.text) if whole else None
    if choice:
        return Heard(outcome(choice, candidate_is))
    expected = (
        "expected [A], [B] or [C] at the end"
        if mode == "written"
        else 'expected {"comparison": "…", "verdict": "A", "B" or "C"} and nothing else'
    )
    return Heard(None, None, read_reply(reply).reason or expected)


def parse_structured(reply: str) -> Choice | None:
    """The verdict of a reply that is the JSON object asked for, perhaps fenced as code, and nothing else."""
    text = (spoken(reply).text or "").strip()
    fenced = _FENCE.fullmatch(text)
    try:
        said = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or set(said) != {"comparison", "verdict"} or not isinstance(said["comparison"], str):
        return None
    return CHOICES.get(said["verdict"]) if isinstance(said["verdict"], str) else None


def letter_log_odds(told: Sequence[tuple[str, float]]) -> float | None:
    """log p(A) - log p(B) of (token, log-probability) alternatives, the ways to write a letter summed; None where neither is told.

    A letter that is not told counts as the most that it can be: no likelier than the least told, nor than all that is left.
    """
    found = {"A": 0.0, "B": 0.0}
    for token, logprob in told:
        letter = token.strip(_MARKS)
        if letter in found:
            found[letter] += math.exp(logprob)
    if not any(found.values()):
        return None
    left = max(1.0 - sum(math.exp(logprob) for _, logprob in told), _LEAST)
    bound = min(left, *(math.exp(logprob) for _, logprob in told))
    a, b = (max(found[letter] or bound, _LEAST) for letter in "AB")
    return math.log(a) - math.log(b)


def margin_of(log_odds_first: float, log_odds_swapped: float) -> float:
    """Half of log p(A) - log p(B) with the candidate as A, less the same with the candidate as B: what position adds cancels."""
    return (log_odds_first - log_odds_swapped) / 2


def by_margin(evidence: float, margin: float) -> Outcome:
    """better or worse where the evidence for the candidate, in log-odds, is beyond ``margin``, else a tie."""
    return "better" if evidence > margin else "worse" if evidence < -margin else "tie"


def chance_better(margin: float) -> float:
    """sigma(margin)."""
    return 1 / (1 + math.exp(-margin)) if margin >= 0 else math.exp(margin) / (1 + math.exp(margin))
