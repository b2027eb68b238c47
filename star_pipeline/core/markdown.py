"""Foreign text in Markdown: it is shown as it is, and can load no picture, set no link and open no HTML."""

import re
from collections.abc import Iterable, Sequence

# an underscore inside of a word means nothing, and names are full of them
_MEANS_SOMETHING = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])|(?<=\])\(")
_HTML = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}
# GitHub's Markdown makes links of bare addresses too; a word joiner inside is not seen, and no link is
_BARE = re.compile(r"(?<=[A-Za-z])(:)(?=//)|(?<=[Ww]{3})(\.)|(@)|(?<=mailto)(:)|(?<=xmpp)(:)", re.IGNORECASE)
_JOINER = "\u2060"


def inline(text: object) -> str:
    """The text as Markdown within a line, a table's cell or a heading. Line breaks become blanks."""
    line = " ".join(str(text).split())
    escaped = _MEANS_SOMETHING.sub(r"\\\g<0>", line).translate(_HTML)
    return _BARE.sub(lambda found: f"{found[0]}{_JOINER}", escaped)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of lines that are Markdown already."""
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *rows))
