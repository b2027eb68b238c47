"""Foreign text in Markdown, read by a parser of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.markdown import inline, table

markdown_it = pytest.importorskip("markdown_it")
PARSER = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"])
HOSTILE = [
    "![x](http://evil.example/a.png)",
    "[a](http://evil.example)",
    "![x][y] [y]: http://evil.example",
    "<img src=x onerror=alert(1)>",
    "<http://evil.example>",
    "`code` | *b* **c** ~~d~~ | e",
    "a_b _c_ __d__ snake_case_",
    "a \\ b \\",
    "&lt;script&gt; &amp; &#33;[x](y)",
    "trailing \\",
]
ADDRESSES = ["https://evil.example/a", "www.evil.example", "me@evil.example", "mailto:me", "HTTP://evil.example"]


def tokens(text):
    """(types of all tokens, the text that is shown) of a table's one cell."""
    cell = PARSER.parse(table(["column"], [[inline(text)]]))
    inner = [child for token in cell if token.type == "inline" for child in token.children][1:]
    return {token.type for token in inner}, "".join(token.content for token in inner).replace("\u2060", "")


@pytest.mark.parametrize("text", HOSTILE + ADDRESSES)
def test_it_is_shown_as_it_is_and_does_nothing(text):
    assert tokens(text) == ({"text"}, text)


@given(st.text(st.sampled_from("![]()<>`*_~|\\&;:/@#x1. $"), min_size=1, max_size=40))
def test_no_text_gets_out_of_its_cell(text):
    types, shown = tokens(f"x{text}x")
    assert types <= {"text"}
    assert shown == " ".join(f"x{text}x".split())


@pytest.mark.parametrize("text", ADDRESSES)
def test_a_bare_address_is_no_link_where_githubs_markdown_would_make_one(text):
    assert text not in inline(text)


def test_names_stay_readable():
    assert inline("fallback_base of keep+qwen-2.5 (16%)") == "fallback_base of keep+qwen-2.5 (16%)"
