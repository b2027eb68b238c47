"""Grades from 1 to 10 of single answers, as MT-bench's judge gives them."""

import re

from star_pipeline.core.equations.reply_cleaning import spoken

_STATED = re.compile(r"\[\[ ?(\d{1,2}(?:\.\d{1,3})?) ?(?:/ ?10)? ?\]\]")
_SINGLE = re.compile(r"\[ ?(\d{1,2}(?:\.\d{1,3})?) ?(?:/ ?10)? ?\]")
_FULL_WIDTH = str.maketrans("［］【】〔〕０１２３４５６７８９", "[][][]0123456789")
LOWEST, HIGHEST = 1, 10


def parse_grade(reply: str) -> float | None:
    """The grade that a reply states: ``[[7]]``, else ``[7]``; None where it states none from 1 to 10, or several that differ.

    Where a reply says several, as when it quotes the form that was asked for, the last one counts if it is alone on its line,
    since the grade closes a reply. Reasoning does not count.
    """
    text = (spoken(reply).text or "").translate(_FULL_WIDTH)
    for form in (_STATED, _SINGLE):
        found = [match for match in form.finditer(text) if LOWEST <= float(match[1]) <= HIGHEST]
        if not found:
            continue
        values = {float(match[1]) for match in found}
        if len(values) == 1 or _closes(text, found[-1]):
            return float(found[-1][1])
        return None
    return None


def _closes(text: str, match: re.Match[str]) -> bool:
    """Whether nothing but marks and blanks comes after it."""
    return not re.search(r"\w", text[match.end() :])
