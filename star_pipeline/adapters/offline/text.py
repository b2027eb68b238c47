"""Words, sentences and reproducible choices: what the offline agents and their judge share."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"”’)]*\s+(?=\S)|(?<=[。！？])")
_BLOCK = re.compile(r"(```.*?(?:```|\Z))|\n[ \t]*\n", re.DOTALL)
# Scripts written without spaces: Thai to Myanmar, Khmer, kana, Han, Hangul (which has spaces, but long words).
_UNSPACED = re.compile(r"[\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]")
# Nobody writes an instruction whose topic first appears after this many characters; it bounds the work on huge inputs.
_READ_HEAD, _READ_TAIL = 6_000, 1_500

_STOPWORDS = """
    a about above after again all also am an and another any are as at be because been before being below
    between both but by can could did do does doing don't down during each either else etc ever every few for
    from further get give given gives had has have having he her here hers him his how however i if in into is
    isn't it it's its itself just least let let's like made make makes many may me might mine more most much
    must my need no nor not now of off on once one only onto or other our ours out over own per please put same
    say says she should show since so some such take tell than thank thanks that that's the their them then
    there these they thing things this those through to too two under until up upon us use used using very via
    want was way we well were what what's when where whether which while who whom whose why will with within
    without would yes yet you your yours write explain describe following answer question help provide include
    reply sentence sentences user assistant short first second third text paragraph new
"""
STOPWORDS = frozenset(_STOPWORDS.split())


def excerpt(text: str) -> str:
    """The part of ``text`` that is read: all of it, or head and tail of a very long one."""
    if len(text) <= _READ_HEAD + _READ_TAIL:
        return text
    return f"{text[:_READ_HEAD]}\n{text[-_READ_TAIL:]}"


def words(text: str) -> list[str]:
    """Casefolded words in order; runs of a script without spaces give their overlapping pairs of characters."""
    found: list[str] = []
    for word in _WORD.findall(text.casefold()):
        if _UNSPACED.search(word) and len(word) > 2:
            found.extend(word[i : i + 2] for i in range(len(word) - 1))
        else:
            found.append(word)
    return found


def content_words(text: str) -> list[str]:
    """Distinct words that carry a topic, in order of appearance: no stop words, no single Latin letters."""
    kept = (word for word in words(excerpt(text)) if word not in STOPWORDS and not (len(word) == 1 and word.isascii()))
    return list(dict.fromkeys(kept))


def as_written(text: str, casefolded: Sequence[str]) -> list[str]:
    """The given words as ``text`` spells them ("Python", not "python"), each shortened to 40 characters."""
    spelled: dict[str, str] = {}
    for word in _WORD.findall(excerpt(text)):
        spelled.setdefault(word.casefold(), word)
    return [spelled.get(word, word)[:40] for word in casefolded]


def blocks(text: str) -> list[str]:
    """Paragraphs; a fenced code block stays whole."""
    parts = (part for part in _BLOCK.split(text) if part is not None)
    return [part.strip("\n").rstrip() for part in parts if part.strip()]


def is_verbatim(block: str) -> bool:
    """Whether a paragraph must not be cut into sentences: code, table, list, heading."""
    first = block.lstrip()
    return (
        "\n" in block
        or first.startswith(("```", "|", "#", "- ", "* ", "{", "[", ">"))
        or bool(re.match(r"\d+[.)]\s", first))
    )


def sentences(paragraph: str) -> list[str]:
    """Sentences of a plain paragraph; one item where no sentence ends are found."""
    return [part.strip() for part in _SENTENCE_END.split(paragraph) if part.strip()]


def count_tokens(text: str) -> int:
    """Words and punctuation marks: the offline agents' rough unit of ``usage`` and ``max_tokens``."""
    return sum(1 for _ in _TOKEN.finditer(text))


def cut_to_tokens(text: str, limit: int | None) -> tuple[str, bool]:
    """``text`` after at most ``limit`` tokens, and whether that cut anything."""
    if limit is None:
        return text, False
    end = 0
    for number, token in enumerate(_TOKEN.finditer(text)):
        if number >= limit:
            return text[:end], True
        end = token.end()
    return text, False


class Draw:
    """Choices that are a pure function of ``key``: the same request always gets the same reply, in every process."""

    def __init__(self, *key: object) -> None:
        self._key = json.dumps(key, ensure_ascii=False, sort_keys=True, default=str).encode("utf-8", "surrogatepass")

    def number(self, label: str) -> float:
        """Uniform in [0, 1), a draw of its own for each label."""
        digest = hashlib.sha256(label.encode() + b"\0" + self._key).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def pick(self, label: str, options: Sequence[T]) -> T:
        """One of ``options``, which must not be empty."""
        return options[int(self.number(label) * len(options))]

    def sample(self, label: str, options: Sequence[T], count: int) -> list[T]:
        """``count`` different ones of ``options`` (or all), in a drawn order."""
        order = sorted(range(len(options)), key=lambda i: self.number(f"{label}{i}"))
        return [options[i] for i in order[:count]]
