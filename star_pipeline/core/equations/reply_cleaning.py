"""What a model said, of what its server sent: without reasoning, end-of-turn tokens and turns that are not its own (Eq. 2, Eq. 6).

Servers cut reasoning off where they know the model's marks; where they do not, it comes along. A text that talks of such marks,
quoted, in code, or in the middle of a sentence, is left as it is. All here is linear in the length of the text.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

_TAGS = (
    r"seed:think|mm:think|longcat_think|budget:thinking|antml:thinking|think|thinking|thoughts?|thought_process|chain_of_thought|cot"
    r"|reasoning|reflection|scratchpad|inner_monologue"
)
_REASONING = re.compile(
    rf"<(?P<close>/?)(?P<tag>(?i:{_TAGS}))(?:\s[^<>]{{0,80}})?>|\[(?P<close2>/?)(?P<square>THINK)\]|◁(?P<close3>/?)(?P<kimi>think)▷"
    r"|<\|(?P<pipe>(?P<open4>begin_of_|START_)|end_of_|END_)(?:thought|THINKING)\|>|<\|(?P<close4>/?)(?P<bar>think(?:ing)?)\|>"
    r"|(?P<gemma><\|channel>thought|<unused94>)|(?P<close5><channel\|>|<unused95>)"
)
_SUSPECT = re.compile(r"<[/|｜a-zA-Z]|[\[◁]|\A\s*(?:analysis[A-Z]|assistant\s|Thinking\.\.\.)")
# what a chat's page or a command line makes of reasoning
_SHOWN = re.compile(r"(?:(?P<page><details\s+type=\"reasoning\"[^<>]{0,300}>)|Thinking\.\.\.[ \t]*\n)")
_SHOWN_ENDS = re.compile(r"</details>|^\.\.\.done thinking\.[ \t]*$", re.MULTILINE)
_BLANK = re.compile(r"[\s\ufeff\u200b\u2060\x00]*")
_EDGE = "".join(char for char in map(chr, range(0x3001)) if char.isspace()) + "\ufeff\u200b\u2060\x00"
# what may stand before a reply's first word; a role only behind its token
_HEAD = re.compile(
    r"(?:<\|(?:im_start|start_header_id|start|start_of_role)\|>|<start_of_turn>|<\|turn>)[ \t]*(?:(?:assistant|model)\b)?"
    r"|<\|[\w.▁-]{1,40}\|>|<｜[^<>｜]{1,40}｜>|<s>|</s>|<bos>|<eos>|<pad>|<end_of_turn>|<turn\|>|\[/INST\]|assistant[ \t]*\n[ \t]*\n"
)
_BEGINS = (
    r"<\|(?:im_start|start_header_id|start|start_of_role|user|User)\|>|<start_of_turn>|<\|turn>|<｜User｜>|\[INST\]"
)
_TURN = re.compile(
    rf"(?P<begins>{_BEGINS})"
    r"|(?P<html></s>)|(?P<inst>\[/INST\])"
    r"|<\|(?:im_end|eot_id|eom_id|end_of_text|endoftext|end|return|call|eot|eos|eod|role_end|end_of_turn|end_of_sentence"
    r"|END_OF_TURN_TOKEN|endofassistant|assistant)\|>|<eos>|<end_of_turn>|<turn\|>|<eod>|<end_of_utterance>|<｜end▁of▁sentence｜>|\[e~\["
)
_TAIL = re.compile(
    r"<\|[\w.▁-]{1,40}\|>|<｜[^<>｜]{1,40}｜>|</?s>|<[be]os>|<pad>|<end_of_turn>|<turn\|>|\[/INST\]|<eod>|\[e~\["
)
_NEXT_TURN = re.compile(rf"\s*(?:\Z|<s>|{_BEGINS})")
_HTML = re.compile(r"<s[ >]", re.IGNORECASE)
_FENCE = re.compile(r"^[ \t]{0,3}(?:```+|~~~+)(?P<info>[^\n`]{0,200})$", re.MULTILINE)
_CHANNEL = re.compile(r"<\|channel\|>[ \t]*(?P<name>\w{1,40})[^<]{0,80}(?:<\|constrain\|>[^<]{0,80})?<\|message\|>")
_FINAL = "<|start|>assistant<|channel|>final<|message|>"
_CHANNEL_END = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
# harmony where the server swallowed its special tokens
_SWALLOWED = re.compile(r"analysis(?=[A-Z])")
_WRAPPER = re.compile(r"<(answer|response|output|solution)>", re.IGNORECASE)
_BESIDE = {"`": "`", '"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "(": ")", "[": "]", "{": "}"}
_GOES_ON = frozenset("'\"`”’»)]},.;:")
"""What follows a mark that is talked of, and no mark that is meant."""
_MOST_MARKS, _MOST_TOKENS = 500, 5000
"""A reply that holds more is no text; what there is to tell apart in fewer takes no time."""
_BLOCKS = 50
"""More blocks of reasoning than these at the start of one reply are not told from its text."""
_MEANT = frozenset(
    {
        "think",
        "thinking",
        "seed:think",
        "mm:think",
        "longcat_think",
        "budget:thinking",
        "antml:thinking",
        "square",
        "kimi",
        "pipe",
        "bar",
    }
)
"""Marks that begin a block in the middle of a text too; the others are words that an XML document may well use."""


@dataclass(frozen=True)
class Spoken:
    """``text`` without what is not the answer, None where reasoning never ends or cannot be told; ``thought``: there was some."""

    text: str | None
    thought: bool = False


@dataclass(frozen=True)
class _Mark:
    start: int
    end: int
    family: str
    closes: bool
    line: int
    region: int
    """Number of the fenced code that it stands in; -1: none."""
    first: bool
    last: bool
    """First, last on its line."""
    glued: bool
    """Right behind a character that is no blank."""
    quoted: bool

    @property
    def ends(self) -> bool:
        """Whether it stands where a block ends, and not in the middle of a sentence."""
        return self.first or self.last or self.glued


def spoken(raw: str) -> Spoken:
    """What of a reply is the answer.

    Off come: blocks of reasoning at the start (``<think>``, ``[THINK]``, harmony's channels and their like, nested and repeated), what
    stands before a lone closing mark, blocks of ``<think>`` between paragraphs, tokens that begin or end a turn at either end, and
    everything from the end of the turn on. Blanks around the answer do not count.
    """
    if not _SUSPECT.search(raw):
        return Spoken(raw.strip(_EDGE))
    if _more_than(_MOST_MARKS, _REASONING.finditer(raw)) or _more_than(_MOST_TOKENS, _TAIL.finditer(raw)):
        return Spoken(None, True)
    text, thought = _of_channels(raw)
    shown = _SHOWN.match(text, _behind_blanks(text, 0)) if text is not None else None
    if text is not None and shown:
        ends = _SHOWN_ENDS.search(text, shown.end())
        if ends or shown["page"]:
            text, thought = text[ends.end() :] if ends else None, True
    if text is None:
        return Spoken(None, True)
    for _ in range(_BLOCKS):
        place, more = _skip_head(text)
        if place is None:
            break
        answer = _unwrapped(text[place:]) if more else text[place:]
        kept = _without_blocks(answer[: _end_of_turn(answer)])
        if kept is None:
            break
        thought = thought or more or len(kept) < _end_of_turn(answer)
        kept = _without_tail(kept).strip(_EDGE)
        if kept == text:
            return Spoken(kept, thought)
        text = kept  # what was taken off may have stood before a mark that counts now
    return Spoken(None, True)


def _unwrapped(text: str) -> str:
    """An answer without the tags that some models put around it behind their reasoning."""
    wrapped, body = _WRAPPER.match(text), text.rstrip()
    ending = f"</{wrapped[1]}>" if wrapped else ""
    return body[wrapped.end() : -len(ending)] if wrapped and body.lower().endswith(ending.lower()) else text


def _more_than(count: int, found: Iterator[object]) -> bool:
    return next(islice(found, count, None), None) is not None


def _behind_blanks(text: str, place: int) -> int:
    blanks = _BLANK.match(text, place)
    return blanks.end() if blanks else place


def _of_channels(raw: str) -> tuple[str | None, bool]:
    """The last final message of a reply in harmony's form, any other reply as it is; None where no final message begins."""
    begin = _behind_blanks(raw, 0)
    if raw.startswith("<|start|>assistant", begin):
        begin += len("<|start|>assistant")
    swallowed = _SWALLOWED.match(raw, begin)
    if swallowed:
        final = raw.rfind("assistantfinal")
        return (None if final < 0 else raw[final + len("assistantfinal") :]), True
    first = _CHANNEL.match(raw, begin)
    if not first:
        # the prompt held the first channel's name, and the reply begins inside of it
        final = raw.rfind(_FINAL)
        if final < 0 or _region(*_code(raw), final) >= 0 or _is_quoted(raw, final, final + len(_FINAL)):
            return raw, False
        first = _CHANNEL.search(raw, final)
    answer, thought = None, first is not None and begin < first.start()
    found = first
    while found:
        after = _CHANNEL_END.search(raw, found.end())
        if found["name"].lower() == "final":
            answer = raw[found.end() : after.start() if after else len(raw)]
        else:
            thought = True
        found = _CHANNEL.search(raw, after.start() if after else len(raw))
    return answer, thought


def _skip_head(text: str) -> tuple[int | None, bool]:
    """(where the answer begins behind blanks, tokens and blocks of reasoning, whether there was reasoning); None: it never ends."""
    marks = _marks(text)
    place = number = blocks = 0
    while blocks <= _BLOCKS:
        place = _behind_blanks(text, place)
        while number < len(marks) and marks[number].start < place:
            number += 1
        if number < len(marks) and marks[number].start == place and not marks[number].closes:
            closing = _closing(marks, number)
            if closing is None:
                return None, True
            place, number, blocks = marks[closing].end, closing + 1, blocks + 1
        elif number < len(marks) and marks[number].start == place:  # a closing mark with nothing before it
            place = marks[number].end
        elif head := _HEAD.match(text, place):
            place = head.end()
        else:
            return place, blocks > 0
    return None, True


def _closing(marks: list[_Mark], opening: int) -> int | None:
    """The mark that ends the block that ``opening`` begins: that of its depth, else the last that can, else any."""
    depth, last, weak, weakest = 1, None, None, None
    mention: _Mark | None = None
    for number in range(opening + 1, len(marks)):
        mark = marks[number]
        if mark.family != marks[opening].family:
            continue
        if not mark.closes:
            if mark.first and not mark.quoted and mark.region < 0:
                depth += 1
            else:
                mention = mark
        elif mark.quoted or (mention and _together(mention, mark)):
            mention, weakest = None, number
        elif not mark.ends or mark.region >= 0:
            weak = number if weak is None else weak
        else:
            depth, last = depth - 1, number
            if depth == 0:
                return number
    return next((found for found in (last, weak, weakest) if found is not None), None)


def _without_blocks(text: str) -> str | None:
    """The text without blocks between its lines, and without what stands before a lone closing mark; None: a block has no end."""
    kept: list[str] = []
    place = 0
    block: _Mark | None = None
    mention: _Mark | None = None
    for mark in _marks(text):
        if not mark.closes:
            if block is None and mark.family in _MEANT and mark.first and mark.region < 0 and not mark.quoted:
                block = mark
            elif block is None:
                mention = mark
        elif block is not None:
            if mark.family == block.family and not mark.quoted:
                kept.append(text[place : block.start])
                place, block = mark.end, None
        elif mention is not None and mention.family == mark.family and (mention.first or _together(mention, mark)):
            mention = None
        elif mark.ends and not mark.quoted and (mark.region < 0 or mark.first):
            kept, place, mention = [], mark.end, None
    if block is not None:
        return None
    return "".join([*kept, text[place:]]) if place else text


def _together(opening: _Mark, closing: _Mark) -> bool:
    return opening.line == closing.line or (opening.region >= 0 and opening.region == closing.region)


def _end_of_turn(text: str) -> int:
    """Where the turn ends: at a token that ends it or begins another, and is no part of what the text talks of."""
    if not (found := next(_TURN.finditer(text), None)):
        return len(text)
    html = next((match.start() for match in _HTML.finditer(text)), len(text))
    prompt = text.find("[INST]")
    quotes = place = 0
    starts, regions = _code(text)
    for found in _TURN.finditer(text):
        before = text[place : found.start()]
        line = before.rfind("\n")
        quotes = (quotes if line < 0 else 0) + before.count("`", line + 1) + before.count('"', line + 1)
        first = (
            not before.strip(" \t") if line < 0 and place == 0 else not before[line + 1 :].strip(" \t") and line >= 0
        )
        glued = _is_glued(text, found.start(), found.end())
        place = found.end()
        if (found["html"] and html < found.start()) or (found["inst"] and 0 <= prompt < found.start()):
            continue
        if quotes % 2 or _is_quoted(text, found.start(), found.end()) or _region(starts, regions, found.start()) >= 0:
            continue
        if found["begins"]:
            if first:
                return found.start()
        elif _NEXT_TURN.match(text, found.end()) or ((first or glued) and not found["html"] and not found["inst"]):
            return found.start()
    return len(text)


def _without_tail(text: str) -> str:
    """The text without the special tokens that it ends with; a tag that the text has opened stays."""
    end = len(text)
    html, prompt = _HTML.search(text), text.find("[INST]")
    for found in reversed(list(_TAIL.finditer(text))):
        if text[found.end() : end].strip():
            break
        if (found[0] == "</s>" and html and html.start() < found.start()) or (found[0] == "[/INST]" and prompt >= 0):
            break
        end = found.start()
    return text[:end]


def _marks(text: str) -> list[_Mark]:
    """The marks of reasoning, in order, with what decides whether they are meant."""
    matches = list(_REASONING.finditer(text))
    if not matches:
        return []
    lines = [newline.start() for newline in re.finditer("\n", text)]
    starts, regions = _code(text)
    made = []
    for number, found in enumerate(matches):
        before = text[matches[number - 1].end() if number else 0 : found.start()]
        after = text[found.end() : matches[number + 1].start() if number + 1 < len(matches) else len(text)]
        alone = before.rstrip(" \t\r")
        rest = after.lstrip(" \t\r")
        made.append(
            _Mark(
                found.start(),
                found.end(),
                _family(found),
                _closes(found),
                bisect_right(lines, found.start()),
                _region(starts, regions, found.start()),
                first=alone.endswith("\n") or (not alone and number == 0),
                last=rest.startswith("\n") or (not rest and number + 1 == len(matches)),
                glued=_is_glued(text, found.start(), found.end()),
                quoted=_is_quoted(text, found.start(), found.end()),
            )
        )
    return made


def _family(found: re.Match[str]) -> str:
    if found["tag"]:
        return found["tag"].lower()
    return next((name for name in ("square", "kimi", "pipe", "bar") if found[name]), "gemma")


def _closes(found: re.Match[str]) -> bool:
    if found["pipe"]:
        return not found["open4"]
    return bool(found["close"] or found["close2"] or found["close3"] or found["close4"] or found["close5"])


def _is_glued(text: str, start: int, end: int) -> bool:
    return start > 0 and not text[start - 1].isspace() and text[end : end + 1] not in _GOES_ON


def _is_quoted(text: str, start: int, end: int) -> bool:
    return start > 0 and end < len(text) and _BESIDE.get(text[start - 1]) == text[end]


def _code(text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Fenced code that is closed, as where each piece starts, and each piece. A fence with a language's name begins a new piece."""
    pieces = list(_pieces(text))
    return [start for start, _ in pieces], pieces


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    opened: int | None = None
    for fence in _FENCE.finditer(text):
        if opened is None or fence["info"].strip():
            opened = fence.start()
        else:
            yield opened, fence.end()
            opened = None


def _region(starts: list[int], pieces: list[tuple[int, int]], place: int) -> int:
    number = bisect_right(starts, place) - 1
    return number if number >= 0 and place < pieces[number][1] else -1
