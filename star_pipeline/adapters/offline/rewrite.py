"""Instruction agents: four ways of rewriting an instruction, of plainly different quality.

The better ones add to the instruction and keep every word of it, so that whatever it supplies (text, table, code)
survives.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from star_pipeline.adapters.offline.respond import RAMBLING
from star_pipeline.adapters.offline.text import Draw, as_written, content_words, sentences

# First match wins: what the instruction asks for, recognised by its words.
_TASKS: Mapping[str, str] = {
    "code": "code function python javascript sql query script bug class regex program algorithm implement bash",
    "extract": "extract json table csv classify label list identify summarise summarize summary column",
    "maths": "calculate solve equation probability percent sum many estimate cost km average integral prove",
    "writing": "story poem letter email essay haiku dialogue post speech review blog scene pretend roleplay",
}
_CONSTRAINTS: Mapping[str, Sequence[str]] = {
    "code": (
        "State what happens for empty input, and show one call with its result.",
        "Use the standard library only, and name the running time.",
        "Add a test for one edge case, and say why you chose it.",
    ),
    "extract": (
        "Where a value is missing, say so instead of guessing it.",
        "Keep the order in which things appear, and add one line that says what was left out.",
        "Name the words in the text that each part of the answer rests on.",
    ),
    "maths": (
        "Show each step of the calculation, and check the result in a second way.",
        "State every assumption that you make, with its unit, before you use it.",
        "Give the result with its unit, and say which step it is most sensitive to.",
    ),
    "writing": (
        "Keep it under 150 words, for readers who meet the subject for the first time.",
        "Include one concrete detail that a reader can see or hear, and avoid clichés.",
        "Let the last line come back to the first one.",
    ),
    "other": (
        "Explain it to somebody with no background in it, and give one concrete example.",
        "Name one common misunderstanding and put it right.",
        "Say for which case your answer would not hold.",
    ),
}
_STEPS: Sequence[str] = (
    "Give the reasons step by step, and say at each step what it rests on.",
    "Work it out in numbered steps, and end with the conclusion in one sentence.",
    "First name what is given, then the steps that lead to the answer, then how it can be checked.",
)
_DEPTH: Sequence[str] = (
    "Please go into more depth about {0}, and also touch on its background and its consequences.",
    "Also discuss in detail how {0} has come about and how it is likely to develop.",
    "Cover the wider picture as well: what speaks for it, what against it, and how {0} compares with its alternatives.",
)
_TERSE: Sequence[str] = (
    "Answer in at most three sentences.",
    "Be precise and keep it short.",
    "Only the essential points, please.",
)
_VAGUE: Sequence[str] = (
    "Could you maybe say something about this sort of thing, in whatever way seems fine: {0}",
    "I was kind of wondering about stuff like this, more or less: {0}",
    "Say a bit about this or something along those lines: {0}",
)
_POLITE = re.compile(
    r"\A(?:please|can you|could you|would you|i would like you to|i want you to)\b[\s,]*(?:please[\s,]*)?",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\b\d[\d.,]*\b")


def _with(instruction: str, addition: str) -> str:
    """The addition, in a paragraph of its own after several lines: it must not look like part of a table or code."""
    return f"{instruction}{chr(10) * 2 if chr(10) in instruction else ' '}{addition}".strip()


def _fresh(draw: Draw, options: Sequence[str], instruction: str) -> str:
    """A drawn option that the instruction does not hold yet (a seed may have been rewritten before)."""
    unused = [option for option in options if option not in instruction]
    return draw.pick("addition", unused or options)


def _tutor(instruction: str, prompt: str, draw: Draw) -> str:
    """One fitting constraint, or explained steps where the prompt asks for depth or reasoning."""
    asked = set(content_words(instruction))
    task = next((name for name, marks in _TASKS.items() if asked.intersection(marks.split())), "other")
    wants_steps = "steps of reasoning" in prompt or "deepen" in prompt.casefold()
    options = _STEPS if wants_steps or draw.number("steps") < 0.25 else _CONSTRAINTS[task]
    return _with(instruction, _fresh(draw, options, instruction))


def _essayist(instruction: str, prompt: str, draw: Draw) -> str:
    """More depth and breadth, whether or not the question needs it."""
    topics = as_written(instruction, content_words(instruction)[:2])
    return _with(
        instruction, _fresh(draw, [option.format(" and ".join(topics) or "it") for option in _DEPTH], instruction)
    )


def _brief(instruction: str, prompt: str, draw: Draw) -> str:
    """The same without polite words at its head, and a wish for a short answer."""
    plain = _POLITE.sub("", instruction, count=1).strip()
    return _with(plain[:1].upper() + plain[1:], _fresh(draw, _TERSE, instruction))


def _rambler(instruction: str, prompt: str, draw: Draw) -> str:
    """Vaguer: numbers in the opening sentence are gone, and what is wanted is no longer said plainly."""
    opening, line_end, rest = instruction.partition("\n")
    first, *others = sentences(opening) or [draw.pick("filler", RAMBLING).format("it", "that")]
    vague = _NUMBER.sub("some", first)
    return _with(
        _fresh(draw, _VAGUE, instruction).format(" ".join([vague, *others]) + line_end + rest), "Or not, as you like."
    )


_AGENTS: Mapping[str, Callable[[str, str, Draw], str]] = {
    "tutor": _tutor,
    "essayist": _essayist,
    "brief": _brief,
    "rambler": _rambler,
}


def rewrite(agent: str, instruction: str, prompt: str, draw: Draw) -> str:
    """The agent's new instruction: never empty, never ``instruction`` as it was. ``prompt`` is the system message."""
    return _AGENTS[agent](instruction.strip(), prompt, draw)
