"""A run whose judge answers by position: its last words, its data set card and its report say so"""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.commands.run import run_pipeline
from star_pipeline.commands.summary import print_summary
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline_tests.conftest import CONFIG, fake_resources, say, seed_rows
from star_pipeline_tests.report.page import ReadPage


def by_position(request):
    return "[B]" if request.template.startswith("judge") else say(request)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """(printed, printed in colours, card, report, warnings) of a run of 24 seeds."""
    folder = tmp_path_factory.mktemp("position")
    config = folder / "config.json"
    sampling = {"pairs_per_seed": 2, "from_memory": 1, "shard_size": 12}
    config.write_text(json.dumps({**CONFIG, "sampling": sampling, "checks": {"least_rows": 4}}))
    lake = Lake.at(folder / "lake")
    lake.prepare()
    lake.write_bytes(lake.seeds / "seeds.json", json.dumps(seed_rows(24)).encode())
    settings, root = SettingsResource(config=str(config)), LakeResource(root=str(lake.root))
    outcome = run_pipeline(str(config), lake, [], SilentProgress(), fake_resources(settings, root, by_position, 1.5))
    plain = Console(file=io.StringIO(), width=120)
    coloured = Console(file=io.StringIO(), width=120, force_terminal=True)
    for console in (plain, coloured):
        assert print_summary(console, lake, outcome, str(config))
    card = Path(str(lake.root), "star_dataset", "README.md").read_text("utf-8")
    return plain.file.getvalue(), coloured.file.getvalue(), card, lake.report.read_bytes(), outcome.warnings


def test_the_last_words_of_the_run_say_it_in_red_before_the_pairs_and_once(told):
    printed, coloured, _, _, warnings = told
    lines = printed.splitlines()
    [number] = [number for number, line in enumerate(lines) if line.startswith("unfit")]
    figure, meaning, remedy = lines[number : number + 3]
    assert figure.startswith("unfit     judge: verdicts turned round when the answers changed places")
    assert "100% (" in figure
    assert "carry no information" in meaning
    assert remedy.startswith("          remedy: ")
    assert "star-pipeline run --rejudge all" in remedy
    assert printed.index("unfit") < printed.index("Agent-pairs")
    assert "\x1b[1;31munfit" in coloured
    assert any(line.startswith("judge_verdicts, flipped_verdicts") for line in warnings)
    assert "flipped_verdicts" not in printed  # the line of health says it, over all shards
    assert not any("health_" in line for line in warnings)


def test_what_is_fine_and_what_too_few_tell_take_a_line_each(told):
    lines = told[0].splitlines()
    [fine] = [line for line in lines if line.startswith("fine")]
    [few] = [line for line in lines if line.startswith("too few")]
    assert "judge_unparsed" in fine
    assert "judge_length" in few


def test_the_card_tells_what_is_unfit(told):
    card = told[2]
    assert "**Unfit.**" in card
    assert "- **judge**: verdicts turned round" in card
    assert "- **gap**" not in card  # all gaps are positive: doubtful, and no more


def test_the_first_block_of_the_report_tells_the_worst_first(told):
    page = ReadPage(told[3])
    text = " ".join(" ".join(page.texts).split())
    first = text[text.index("Health", text.index("Samples")) : text.index("cost")]
    assert first.index("unfit: judge") < first.index("doubtful: gap") < first.index("Fine: ")
    assert "Remedy: judge.mode" in first.replace(" :", ":")
