"""The guides speak of what there is: every shipped query has its place, every link and picture is there, every command exists."""

import re
from pathlib import Path

import pytest
import yaml

from star_pipeline.cli import app
from star_pipeline.config.study import StudyConfig
from star_pipeline.core.health.examination import SIGNATURES
from star_pipeline.core.study.conclusion import WORDS
from star_pipeline.core.study.names import RULES
from star_pipeline.inspection.shipped import shipped_queries
from star_pipeline_tests.guide_pages import summary_of, with_summary

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "star_pipeline" / "guides").glob("*.md"))]


def test_the_page_of_queries_has_each_of_them_with_its_question() -> None:
    page = (ROOT / "star_pipeline" / "guides" / "queries.md").read_text("utf-8")
    headings = re.findall(r"^### (\w+)\n\n(.*)$", page, re.MULTILINE)
    assert [name for name, _ in headings] == list(shipped_queries())
    for name, text in headings:
        assert text.startswith(shipped_queries()[name].question), f"{name}: make the page anew, see its first lines"


def test_the_guide_says_how_every_figure_of_health_is_computed() -> None:
    page = (ROOT / "star_pipeline" / "guides" / "production.md").read_text("utf-8")
    table = page[page.index("## What the health lines mean") :]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [signature.name for signature in SIGNATURES]


def test_the_readme_begins_with_run_and_test_of_one_command_each_and_tells_a_run_s_summary_once() -> None:
    text = README.read_text("utf-8")
    sections = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    assert sections[1::2][:2] == ["Run", "Test"]
    for part in (sections[2], sections[4]):
        [block] = re.findall(r"^```bash\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
        assert block.count("\n") == 1
    assert with_summary(text, "seeds other\n") != text
    assert re.search(r"^final rows\s+\d+: \d+ unchanged seeds \(", text, re.MULTILINE)
    with pytest.raises(ValueError, match="0 blocks"):
        with_summary("# no summary\n", "seeds\n")


def test_the_summary_for_the_readme_is_what_run_prints_without_time_places_and_the_last_pairs() -> None:
    printed = """
seeds       9 in 1 shards
cost        0.0000 USD
time        3 s

Agent-pairs
pair   drawn
a+a        4
b+b        3
c+c        2
d+d        1
By mean π no sampled pair is clearly ahead.

final data set  /somewhere
"""
    head = "seeds       9 in 1 shards\ncost        0.0000 USD\n\nAgent-pairs\npair   drawn\na+a        4\nb+b        3\nc+c        2\n"
    assert summary_of(printed) == head + "…\nBy mean π no sampled pair is clearly ahead.\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere_and_commands_are_there(page: Path) -> None:
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    known |= {group.name or group.typer_instance.info.name for group in app.registered_groups}
    for command in re.findall(r"^(?:\S*/)?star-pipeline (\w+)", text, re.MULTILINE):
        assert command in known, command
    for name in re.findall(r"star-pipeline query (\w+)", text):
        assert name in (*shipped_queries(), "SQL", "NAME"), name


def test_the_study_in_its_guide_is_one_that_can_be_configured() -> None:
    page = (ROOT / "star_pipeline" / "guides" / "study.md").read_text("utf-8")
    [block] = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    study = StudyConfig.model_validate(yaml.safe_load(block)["study"])
    assert study.agents == {"study.evaluate.pairwise.judge": "gpt", "study.evaluate.grades.judge": "gpt"}
    named = re.findall(r"^\| `(\w+)` \|", page[: page.index("## Configuration")], re.MULTILINE)
    assert named == list(RULES)
    told = re.findall(r"^\| `(\w+)` \|", page[page.index("## What each measure means") :], re.MULTILINE)
    assert told == list(WORDS)
