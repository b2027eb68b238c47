"""The guides speak of what there is: every shipped query has its place, every link and picture is there, every command exists."""

import re
from pathlib import Path

import pytest

from star_pipeline.cli import app
from star_pipeline.inspection.shipped import shipped_queries

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "star_pipeline" / "guides").glob("*.md"))]


def test_the_page_of_queries_has_each_of_them_with_its_question() -> None:
    page = (ROOT / "star_pipeline" / "guides" / "queries.md").read_text("utf-8")
    headings = re.findall(r"^### (\w+)\n\n(.*)$", page, re.MULTILINE)
    assert [name for name, _ in headings] == list(shipped_queries())
    for name, text in headings:
        assert text.startswith(shipped_queries()[name].question), f"{name}: make the page anew, see its first lines"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere_and_commands_are_there(page: Path) -> None:
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    for command in re.findall(r"^(?:\S*/)?star-pipeline (\w+)", text, re.MULTILINE):
        assert command in known, command
    for name in re.findall(r"star-pipeline query (\w+)", text):
        assert name in (*shipped_queries(), "SQL", "NAME"), name
