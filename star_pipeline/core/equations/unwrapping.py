"""A reply without the wrapper that its model put around it: the prompt's own tags, a heading, quotation marks, a fence (Eq. 2).

Only what stands around the whole text comes off. A text that holds such words in its middle, or answers an instruction that begins with
them, is left as it is.
"""

import re

_TAGS = (
    r"(?:re-?written|revised|new|improved|final|modified|updated|original)?[_ -]?"
    r"(?:(?:instruction|prompt|question|task|request)s?|rewrite)"
)
_OPENS = re.compile(rf"\s*<(?P<tag>{_TAGS})>[ \t]*\n?", re.IGNORECASE)
_CLOSES = re.compile(rf"\n?[ \t]*</(?P<tag>{_TAGS})>\s*\Z", re.IGNORECASE)
_SHOWN = re.compile(r"\s*<(?P<tag>system_prompt|conversation)>.*?</(?P=tag)>\s*", re.IGNORECASE | re.DOTALL)
_NEW = r"(?:re-?written|revised|re-?phrased|reworded|improved|updated|modified|refined|new|deepened|enhanced|expanded|concrete|final)"
_THING = r"(?:instructions?|prompt|question|task|request|version(?: of (?:the|your) (?:instruction|prompt|question|task|request))?)"
_HEADING = re.compile(
    rf"\s*(?P<mark>\#{{1,6}}[ \t]+|\*{{1,3}}|_{{1,2}})?(?:(?:sure|certainly|of course|okay|ok)[,!.:]?\s+)?"
    rf"(?:(?:(?:here(?:['’]s| is| are)|this is|below is)\s+)?(?:(?:the|a|an|your|my|one)\s+)?"
    rf"(?:(?:more\s+)?(?:clear|clearer|complete|concise)[ \t,]+"
    rf"(?:and\s+)?)*(?:more\s+)?{_NEW}\s+{_THING}|instruction)"
    r"(?:[ \t]+(?:with|that|for|based|in|to)\b[^:\n]{0,80})?"
    r"(?:\*{1,3}|_{1,2})?[ \t]*[:：](?:\*{1,3}|_{1,2})?[ \t]*\n?\s*",
    re.IGNORECASE,
)
_CUE = re.compile(
    rf"^[ \t]*(?:\*\*|\#+[ \t]*)?(?:{_NEW})[ \t]+instruction(?:\*\*)?[ \t]*[:：](?:\*\*)?[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_HEADING_ZH = re.compile(
    r"\s*(?:\*\*)?(?:以下是|这是)?(?:改写|重写|修改)(?:后|过)?的?(?:指令|说明|问题|提示|指示)(?:\*\*)?\s*[:：]\s*(?:\*\*)?\s*"
)
_QUOTES = {'"': '"', "“": "”", "«": "»", "「": "」", "‘": "’", "'": "'", "„": "“", "`": "`"}
_FENCED = re.compile(
    r"\s*(?P<fence>```+|~~~+)[ \t]*(?:text|txt|plaintext|plain|markdown|md|instruction)?[ \t]*\n(?P<inside>.*?)\n?[ \t]*(?P=fence)\s*\Z",
    re.IGNORECASE | re.DOTALL,
)
_ROLE = re.compile(
    r"\s*(?:\*\*|\#{1,4}[ \t]*)?(?:assistant|ai assistant|ai)(?:\*\*)?[ \t]*:(?:\*\*)?\s+", re.IGNORECASE
)
_ANSWER = re.compile(r"\s*\#{2,4}[ \t]*(?:response|answer|output)[ \t]*:?[ \t]*\n\s*", re.IGNORECASE)
_WHOLE = re.compile(
    r"\s*<(?P<tag>answer|response|output|draft)>\s*(?P<inside>.*?)\s*</(?P=tag)>\s*\Z", re.IGNORECASE | re.DOTALL
)
_LAYERS = 6
"""More wrappers in one another than these are no wrappers."""


def unwrapped_instruction(text: str, given: str) -> str:
    """A rewritten instruction without what was put around it; ``given`` is the instruction that was to be rewritten."""
    for _ in range(_LAYERS):
        bare = _without_one(text, given).strip()
        if bare == text:
            break
        text = bare
    return text


def unwrapped_response(text: str, given: str) -> str:
    """A response without a role's name, a heading of its own line, or tags around the whole."""
    for _ in range(_LAYERS):
        bare = text
        for pattern in (_ROLE, _ANSWER):
            found = pattern.match(bare)
            if found and bare[found.end() :].strip() and not pattern.search(given):
                bare = bare[found.end() :]
        whole = _WHOLE.match(bare)
        if whole and f"<{whole['tag'].lower()}>" not in given.lower() and f"<{whole['tag']}>" not in whole["inside"]:
            bare = whole["inside"]
        if bare.strip() == text:
            break
        text = bare.strip()
    return text


def _without_one(text: str, given: str) -> str:
    shown = _SHOWN.match(text)
    if shown and f"<{shown['tag'].lower()}>" not in given.lower() and text[shown.end() :].strip():
        text = text[shown.end() :]
    opened = _OPENS.match(text)
    if opened and not _OPENS.match(given):
        return _inside(text[opened.end() :], opened["tag"])
    closed = _CLOSES.search(text)
    if (
        closed
        and not opened
        and f"<{closed['tag'].lower()}>" not in text.lower()
        and f"</{closed['tag'].lower()}>" not in given.lower()
    ):
        return text[: closed.start()]
    for heading in (_HEADING, _HEADING_ZH):
        found = heading.match(text)
        if found and not heading.match(given) and text[found.end() :].strip():
            rest = text[found.end() :]
            return rest.removesuffix(found["mark"].strip()) if _is_bold(found) else rest
    fenced = _FENCED.match(text)
    if fenced and fenced["fence"] not in given and fenced["fence"] not in fenced["inside"] and fenced["inside"].strip():
        return fenced["inside"]
    closing = _QUOTES.get(text[:1])
    if closing and len(text) > 2 and text.endswith(closing) and not given.lstrip().startswith(text[0]):
        inside = text[1:-1]
        if text[0] not in inside and closing not in inside and inside.strip():
            return inside
    return text


def _is_bold(found: re.Match[str]) -> bool:
    """Whether the mark before a heading opens an emphasis that ends behind the text, and not with the heading."""
    mark = (found.groupdict().get("mark") or "").strip()
    return bool(mark) and not mark.startswith("#") and mark not in found[0].strip()[len(mark) :]


def _inside(rest: str, tag: str) -> str:
    """What a tag at the start holds: up to its end, or what a cue behind it says; all, where it has no end."""
    ending = re.search(f"</{re.escape(tag)}>", rest, re.IGNORECASE)
    if not ending:
        cue = _CUE.search(rest)
        return rest[cue.end() :] if cue and rest[cue.end() :].strip() else rest
    inside, behind = rest[: ending.start()], rest[ending.end() :]
    cue = _CUE.search(behind)
    if cue and behind[cue.end() :].strip():
        return behind[cue.end() :]
    if _OPENS.match(behind):
        return behind
    return inside if inside.strip() else behind
