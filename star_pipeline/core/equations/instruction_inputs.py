"""What an instruction gives to work on (a text, a list, a table, code, a quotation, numbers, an address), and what is left of it."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from star_pipeline.core.equations.requests_made import asks

_FENCED = re.compile(r"^[ \t]*(?:```|~~~)[^\n]*\n(?P<code>.*?)^[ \t]*(?:```|~~~)[ \t]*$", re.MULTILINE | re.DOTALL)
_ADDRESS = re.compile(r"https?://[^\s<>\"')\]]+|www\.[^\s<>\"')\]]+|[\w.+-]+@[\w-]+\.[\w.]+")
_QUOTED = re.compile(
    r"\"([^\"\n]{2,400})\"|“([^”\n]{2,400})”|«([^»\n]{2,400})»|「([^」\n]{1,400})」|《([^》\n]{1,400})》|‘([^’\n]{4,400})’|(?<![\w'])'([^'\n]{2,400})'(?!\w)"
)
_ITEM = re.compile(r"^[ \t]*(?:[-*•–]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])[ \t]+", re.MULTILINE)
_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_COLON = re.compile(r"(?<!\d)[:：](?=\s|$|[\"“«「\u2e80-\u9fff])")
_CODE = re.compile(
    r"[;{}]\s*$|^\s*(?:def|class|import|from|for|if|while|return|print|SELECT|function|var|let|const|#include|public)\b.*[(:;{]|\w\(.*\)\s*$"
)
_STOP_WORDS = """
    a an the this that these those of to in on at by for from with as and or but if then than so is are was were be
    been being am do does did has have had it its he she they we you i me him her them us my your his their our not
    no yes can could will would shall should may might must there here what which who whom whose when where why how
    all any each some such only own same too very into about over under up down out off again please following given
    using
"""
_STOP = frozenset(_STOP_WORDS.split())
_NAMES = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty
"""
_VALUES = {str(value): name for value, name in enumerate(_NAMES.split())} | {
    "30": "thirty",
    "50": "fifty",
    "100": "hundred",
    "1000": "thousand",
}
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\u0e00-\u0e7f]")
_STEM = 5
"""Letters by which two forms of a word are taken for the same."""


@dataclass(frozen=True)
class Input:
    """Something that an instruction supplies: ``kind`` in words, and the text of it."""

    kind: str
    text: str


@dataclass(frozen=True)
class Kept:
    """How much of an input another text holds: ``found`` of ``words`` words (or numbers) that only the input has."""

    input: Input
    found: int
    words: int

    @property
    def share(self) -> float:
        return self.found / self.words if self.words else 1.0


def kept(instruction: str, other: str) -> list[Kept]:
    """For every input of ``instruction``, how much of it ``other`` holds. An input without words of its own is not named."""
    held = _stems(other) | _STOP.intersection(word.lower() for word in _WORD.findall(other))
    numbers = _numbers(other) | {value for value, name in _VALUES.items() if name[:_STEM] in held}
    task = _stems(task_of(instruction))
    made = []
    for one in inputs(instruction):
        if one.kind == "numbers":
            wanted = _numbers(one.text)
            made.append(Kept(one, len(wanted & numbers), len(wanted)))
            continue
        if one.kind == "address":
            made.append(Kept(one, int(one.text.lower().rstrip(".,") in other.lower()), 1))
            continue
        figures = _numbers(one.text)
        words = _stems(one.text) if not figures else _stems(one.text) - _STOP
        words = ((words - task) | figures) or words
        made.append(Kept(one, len({word for word in words if word in held or word in numbers}), len(words)))
    return [one for one in made if one.words]


def inputs(instruction: str) -> Iterator[Input]:
    """What the instruction supplies, the largest pieces first."""
    text = instruction.strip()
    code = [found["code"].strip() for found in _FENCED.finditer(text)]
    yield from (Input("code", one) for one in code if one)
    rest = _FENCED.sub("", text).strip()
    supplied = supplied_by(rest)
    if supplied:
        yield Input(_kind(supplied), supplied)
    for found in _ADDRESS.finditer(rest):
        yield Input("address", found[0])
    for found in _QUOTED.finditer(rest):
        quoted = next(part for part in found.groups() if part)
        if quoted not in supplied:
            yield Input("quotation", quoted)
    if len(_numbers(rest)) >= 2:
        yield Input("numbers", " ".join(_NUMBER.findall(_ITEM.sub("", rest))))


def supplied_by(text: str) -> str:
    """The text behind the task: the lines that ask nothing, or what stands behind the task's colon."""
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) < 2:
        found = _COLON.search(text)
        # a short word before it is a label, and not a task
        return text[found.end() :].strip() if found and len(_WORD.findall(text[: found.start()])) >= 2 else ""
    asking = [number for number, line in enumerate(lines) if asks(line)]
    task = asking[0] if asking and asking[0] in (0, len(lines) - 1) else 0
    return "\n".join(line for number, line in enumerate(lines) if number != task)


def task_of(text: str) -> str:
    supplied = supplied_by(_FENCED.sub("", text).strip())
    return text.replace(supplied, " ") if supplied else text


def _kind(text: str) -> str:
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) >= 2 and all(line.count("|") >= 2 or "\t" in line for line in lines):
        return "table"
    if any(map(_CODE.search, lines)):
        return "code"
    if len(_ITEM.findall(text)) >= 2 or (
        len(lines) == 1 and text.count(",") >= 2 and max(map(len, text.split(","))) < 30
    ):
        return "list"
    return "text"


def _numbers(text: str) -> set[str]:
    return {found.replace(",", "") for found in _NUMBER.findall(_ITEM.sub("", text))}


def _stems(text: str) -> set[str]:
    """The first letters of the words that carry meaning; pairs of signs where a script has no blanks between words."""
    words = [word for word in _WORD.findall(unicodedata.normalize("NFKC", text).lower()) if not _NUMBER.fullmatch(word)]
    found: set[str] = set()
    for word in words:
        if _UNSPACED.search(word):
            found.update(word[place : place + 2] for place in range(max(1, len(word) - 1)))
        else:
            found.add(word if word in _STOP or word[:_STEM] in _STOP else word[:_STEM])
    return (found - _STOP) or found
