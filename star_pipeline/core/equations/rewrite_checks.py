"""What an instruction agent's reply did to the instruction (Eq. 2: I' = A_I(I)): whether it is one, and still carries what it was given.

A kind of fault that is told with certainty fails the rewrite, before anybody pays for its answer; one that is not is a warning.
"""

import re
from collections.abc import Iterable

from star_pipeline.core.equations.instruction_inputs import Kept, kept, supplied_by, task_of
from star_pipeline.core.equations.refusals import refuses
from star_pipeline.core.equations.requests_made import answers, asks, is_english
from star_pipeline.core.equations.response_checks import Check, loops, other_script, quoted

KEEPS_INPUTS = frozenset({"rewrite", "deepen", "constrain", "concretise", "reason"})
"""Prompts that ask for the same instruction in other words. Those of other names may ask for a new one, with inputs of its own."""
_POINTS_TO = re.compile(
    r"\b(?:the|these|this|following|given|provided|below|above|supplied|attached|specified|your)\b[^.?!\n]{0,30}\b(?:text|sentences?|passage|paragraph|article|list|items|"
    r"words?|phrases?|data|table|code|numbers?|input|following|statements?|examples?|poem|story|questions?|information|quotes?|below|email|dialogue|"
    r"conversation|document|snippet|equation|set|array|string|headline|review|tweet|context|transaction|options|names?|topic)\b|\bbelow\b|\bfollowing\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]+")
_OPENING = 20
_RUN = 5
"""Words in a row of the prompt that nobody writes by chance."""
_LOST, _PARTLY = 0.34, 0.6


def check_rewrite(given: str, made: str, prompt: str, wording: Iterable[str], shipped: bool = True) -> Check:
    """Compare a rewritten instruction, its wrapper taken off, with the one that was ``given``.

    ``wording`` is what the prompt said beside the values it was given, in pieces; ``shipped``: it is the program's own prompt, none
    of whose words belong in an instruction.
    """
    if refuses(made) and not refuses(given) and made[:_OPENING].lower() not in given.lower():
        return Check("refused", f"the reply refuses in place of an instruction: {quoted(made)}")
    leaked = repeated(made, given, wording)
    if leaked and shipped:
        return Check("repeats_prompt", f"the rewrite repeats the prompt: {quoted(leaked)}")
    script = other_script(made, given)
    if script:
        return Check(
            "other_script", f"the rewrite is written in {script[0]} letters, the instruction in {script[1]} ones"
        )
    looped = loops(made, given)
    if looped:
        return Check("loop", f"the rewrite repeats itself to its end: {quoted(looped)}")
    if is_answer(given, made):
        return Check("answered", f"the reply answers, or asks for nothing: {quoted(made)}")
    lost = lost_inputs(given, made, prompt in KEEPS_INPUTS)
    if lost:
        return Check(
            "lost_input", "the rewrite lost what the instruction carries: " + "; ".join(map(_in_words, lost[:3]))
        )
    partly = prompt in KEEPS_INPUTS and any(one.share < _PARTLY for one in kept(given, made))
    seen = {"template_words": leaked, "partial_input": partly, "added_text": adds_text(given, made)}
    return Check(warnings=tuple(name for name, found in seen.items() if found))


def lost_inputs(given: str, made: str, keeps: bool) -> list[Kept]:
    """The inputs of which hardly anything is left; where the prompt may ask for other inputs, only if none took their place."""
    found = kept(given, made)
    if not keeps:
        texts = [one for one in found if one.input.kind not in ("numbers", "address", "quotation")]
        pointed = _POINTS_TO.search(made) and not supplied_by(made) and not any(mark in made for mark in '"“«「`')
        return [one for one in texts if one.found == 0] if pointed else []
    return [one for one in found if one.share < _LOST]


def is_answer(given: str, made: str) -> bool:
    """Whether the text asks for nothing, where the instruction did, or calls itself an answer. Told of English alone."""
    if answers(made) and not answers(given):
        return True
    if task_of(given).strip().lower() in made.lower():
        return False
    return is_english(given) and is_english(made) and asks(given) and not asks(made)


def adds_text(given: str, made: str) -> bool:
    """Whether all of the instruction comes again, and behind it a paragraph that asks for nothing: an answer, or more to work on."""
    whole = " ".join(given.split()).rstrip(".")
    before, _, added = made.rpartition("\n\n")
    return (
        bool(before)
        and " ".join(made.split()).startswith(whole)
        and added not in given
        and is_english(added)
        and not asks(added)
    )


def repeated(made: str, given: str, wording: Iterable[str]) -> str | None:
    """Words of the prompt in the text that the instruction does not have: the first run of at least five."""
    said = _runs(made)
    own = set(_runs(given))
    for piece in wording:
        for run in _runs(piece):
            if run in said and run not in own:
                return run
    return None


def _runs(text: str) -> dict[str, None]:
    words = [word.lower() for word in _WORD.findall(text)]
    return dict.fromkeys(" ".join(words[place : place + _RUN]) for place in range(len(words) - _RUN + 1))


def _in_words(lost: Kept) -> str:
    amount = "" if not lost.found else f" ({lost.found} of {lost.words} words left)"
    return f"its {lost.input.kind} {quoted(lost.input.text)}{amount}"
