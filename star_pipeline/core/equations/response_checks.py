"""What is odd about a text that a model made (Eq. 2): it repeats itself, refuses, or is in another script than was asked.

All here is linear in the length of the text.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from star_pipeline.core.equations.refusals import refuses

_LEAST_LOOP = 5
"""Repeats in a row at the end that no writer means."""
_LEAST_LOOPED, _LOOPED_SHARE = 200, 0.3
_LONGEST_PERIOD = 1_500
_ASKS_TO_REPEAT = re.compile(
    r"\b(?:repeat|times|repetiti\w*|again and again|over and over|loop|print|sing|"
    r"song|lyrics|chorus|poem|pattern|sequence|binary|table|ascii|copies|fill)\b"
    r"|重复|次|诗|歌",
    re.IGNORECASE,
)
_SCRIPTS = {
    "LATIN": "Latin", "CYRILLIC": "Cyrillic", "GREEK": "Greek", "ARABIC": "Arabic", "HEBREW": "Hebrew", "DEVANAGARI": "Devanagari",
    "CJK": "Han", "HIRAGANA": "Han", "KATAKANA": "Han", "HANGUL": "Hangul", "THAI": "Thai", "BENGALI": "Bengali", "TAMIL": "Tamil",
}  # fmt: skip
_NAMES_A_LANGUAGE = re.compile(
    r"\b(?:translat\w*|languages?|bilingual|multilingual|alphabet|script|characters?|kanji|pinyin|hiragana|chinese|mandarin|cantonese|japanese|korean|"
    r"russian|ukrainian|bulgarian|serbian|greek|arabic|persian|farsi|urdu|hebrew|hindi|marathi|nepali|sanskrit|thai|bengali|tamil|english|latin|"
    r"french|german|spanish|italian|portuguese|transliterat\w*)\b"
    r"|[语語文]|翻[译譯]|字母|日本|韩国|перев|англ|язык|ترجم|العربية|번역|영어",
    re.IGNORECASE,
)
_LEAST_LETTERS = 20
_GOES_ON = re.compile(
    r"\b(?:however|but i can|i can (?:still|certainly|suggest|offer|provide|tell|try|help)|"
    r"here (?:is|are)|here['’]s|that (?:being )?said|that in mind|instead, |in general)\b"
    r"|但是?|不过|不過",
    re.IGNORECASE,
)
"""After a refusal: what is said all the same."""
_SHOWN = 60


@dataclass(frozen=True)
class Check:
    """``kind`` and ``reason`` of a fault that fails the text, else None; ``warnings`` are names of what may be wrong."""

    kind: str | None = None
    reason: str | None = None
    warnings: tuple[str, ...] = ()


def check_response(asked: str, made: str) -> Check:
    """What a response did with the instruction that it was ``asked``. A refusal is a warning, and so is another script: either may be
    what was asked for."""
    looped = loops(made, asked)
    if looped:
        return Check("loop", f"the reply repeats itself to its end: {quoted(looped)}")
    refused = refuses(made) and not _GOES_ON.search(made)
    return Check(
        warnings=(
            *(("refused_answer",) if refused else ()),
            *(("other_script",) if other_script(made, asked) else ()),
        )
    )


def quoted(text: str) -> str:
    """The beginning of a text, on one line."""
    one_line = " ".join(text.split())
    return repr(one_line if len(one_line) <= _SHOWN else one_line[: _SHOWN - 1] + "…")


def loops(text: str, asked: str) -> str | None:
    """What the text repeats until it ends, at least five times in a row; None where it does not, or was asked for such."""
    if _ASKS_TO_REPEAT.search(asked):
        return None
    body = text.rstrip()
    # a text that broke off within a repeat ends with a part of it
    for tail in (body, body[: body.rfind("\n")] if "\n" in body else ""):
        unit = _repeated(tail)
        if unit:
            return unit
    return None


def _repeated(body: str) -> str | None:
    if len(body) < _LEAST_LOOPED:
        return None
    end = body[-40:]
    place = len(body) - 40
    for _ in range(200):
        # the last 40 characters come again one period before
        place = body.rfind(end, 0, place + 39)
        period = len(body) - 40 - place
        if place < 0 or period > _LONGEST_PERIOD:
            return None
        unit = body[-period:]
        times = 1
        while body.endswith(unit, 0, len(body) - times * period):
            times += 1
        if times >= _LEAST_LOOP and times * period >= max(_LEAST_LOOPED, _LOOPED_SHARE * len(body)):
            return unit.strip()
    return None


def other_script(text: str, asked: str) -> tuple[str, str] | None:
    """(script of the text, script of what was asked) where a text is written in another than was asked, and no language is named."""
    if text.isascii() and asked.isascii():
        return None
    said, wanted = _scripts(text), _scripts(asked)
    if _weight(said) < _LEAST_LETTERS or _weight(wanted) < _LEAST_LETTERS or _NAMES_A_LANGUAGE.search(asked):
        return None
    main, count = said.most_common(1)[0]
    asked_in = wanted.most_common(1)[0][0]
    if wanted[main] or said[asked_in] > 0.5 * wanted[asked_in] or count < 0.8 * said.total() or main == "other":
        return None
    return main, asked_in


def _weight(scripts: Counter[str]) -> int:
    return scripts.total() + 2 * scripts["Han"]  # a word of one or two signs


def _scripts(text: str) -> Counter[str]:
    """Letters by script; code and addresses are left out, which are Latin everywhere."""
    plain = re.sub(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", " ", text, flags=re.DOTALL)
    return Counter(_script(letter) for letter in plain if letter.isalpha())


@lru_cache(4096)
def _script(letter: str) -> str:
    return _SCRIPTS.get(unicodedata.name(letter, "").split(" ")[0].split("-")[0], "other")
