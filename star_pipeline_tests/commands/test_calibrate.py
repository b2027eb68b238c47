"""``calibrate`` through real parts: a chat server on loopback, small real models, the run that comes after it."""

import json

import dagster as dg
import pytest
import yaml
from typer.testing import CliRunner

from star_pipeline.adapters.calibration_files import read_findings
from star_pipeline.adapters.fakes import HashEmbedder
from star_pipeline.adapters.first_seeds import first_seeds
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.cli import app
from star_pipeline.commands.calibrate import run_calibration
from star_pipeline.commands.run import run_pipeline
from star_pipeline.config import load_config
from star_pipeline.core import tables
from star_pipeline.core.calibration.words import verdict
from star_pipeline.core.errors import BudgetReached, ConfigError, SeedError
from star_pipeline.defs.build import build_defs
from star_pipeline.defs.resources import (
    EmbedderResource,
    LakeResource,
    MemoryResource,
    ProgressResource,
    SettingsResource,
)
from star_pipeline.inspection.build import open_inspection
from star_pipeline.report.build import build_report
from star_pipeline_tests.commands.test_run import Lakeside, Notes, prefers_a
from star_pipeline_tests.conftest import fake_resources, seed_rows
from star_pipeline_tests.journals import read_spend
from star_pipeline_tests.llm_server import chat_server
from star_pipeline_tests.tiny_models import save_gpt_neox

pytestmark = pytest.mark.slow

WORDS = tuple(
    f"{first}{second}" for first in ("al", "be", "ga", "de") for second in ("pha", "ta", "mma", "lta", "zeta")
)
SEEDS = [
    {
        "instruction": f"Tell of {WORDS[n]} and {WORDS[-n - 1]} in three sentences.",
        "output": f"{WORDS[n].title()} came {n + 3} years before. It was {WORDS[(n * 5) % 20]} that went. So ends {WORDS[-n - 1]} {n}.",
    }
    for n in range(12)
]
OWN = {row["instruction"]: row["output"] for row in SEEDS}


def faithful(first, second, own):
    """Prefers a seed's own response; of two others, which may be as good, the longer."""
    if own in (first, second):
        return "C" if first == second else "A" if first == own else "B"
    return "C" if len(first) == len(second) else "A" if len(first) > len(second) else "B"


def by_place(first, second, own):
    return "B"


def answers(judge):
    """A server with two agents, ``echo`` that can only repeat what it is to rewrite, and a judge."""

    def script(asked):
        text = asked["messages"][-1]["content"]
        if "[Final Verdict]" in text:
            first, second = (part.split("\n[End of")[0] for part in text.split("'s Answer]\n")[1::2])
            own = next((out for question, out in OWN.items() if question in text), "")
            return f"Compared.\n[{judge(first, second, own)}]"
        if text.endswith("Rewritten instruction:"):
            instruction = text.split("<instruction>\n")[1].split("\n</instruction>")[0]
            return instruction if asked["model"] == "echo" else f"{instruction} Give an example."
        return f"{asked['model']} says of this: " + " ".join(reversed(text.split()))

    return script


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    texts = [text for row in SEEDS for text in row.values()]
    save_gpt_neox(folder / "small", texts, seed=0, hidden=32, layers=1)
    save_gpt_neox(folder / "large", texts, seed=1, hidden=32, layers=2)
    return folder


def configured(folder, models, url, **changes):
    prices = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "params": {"max_tokens": 50}}
    settings = {
        "name": "calibrated",
        "agents": {
            name: {"model": f"hosted_vllm/{name}", "api_base": url, **prices} for name in ("good", "echo", "plain")
        },
        "pairs": {"sampled": ["keep+good", "good+good", "echo+good"], "base": ["keep+plain"]},
        "sampling": {"pairs_per_seed": 3, "from_memory": 1, "shard_size": 8},
        "scoring": {name: str(models / name) for name in ("small", "large")} | {"template": "plain", "max_length": 200},
        "judge": {"agent": "plain", "skip_nonpositive_gap": False},
        **changes,
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(settings))
    (folder / "seeds.json").write_text(json.dumps(SEEDS))
    return str(folder / "c.yaml")


def hashed(settings, lake):
    class Hashed(EmbedderResource):
        def embedder(self):
            return HashEmbedder()

    given = SettingsResource(config=settings)
    return {"embedder": Hashed(settings=given, lake=LakeResource(root=str(lake.root)), progress=ProgressResource())}


def verdicts_of(found):
    return {(row.subject, row.name, row.measure): row.verdict for row in found}


@pytest.fixture(scope="module")
def calibrated(models, tmp_path_factory):
    """A fresh lake after ``calibrate --seeds``, with the server still there."""
    folder = tmp_path_factory.mktemp("lake")
    with chat_server(answers(faithful)) as server:
        config, lake = configured(folder, models, server.url), Lake.at(folder / "lake")
        found = run_calibration(config, lake, [str(folder / "seeds.json")], 24, SilentProgress(), hashed(config, lake))
        yield folder, config, lake, found, server


def sent(requests):
    return {(asked["model"], str(asked["messages"])) for asked in requests}


def test_a_faithful_judge_is_fit_echoes_and_random_models_are_not(calibrated):
    found = verdicts_of(calibrated[3])
    assert {name for (subject, _, name), what in found.items() if subject == "judge" and what != "fine"} <= {
        "accuracy, shuffled",
        "accuracy, numbers",
    }
    assert found["judge", "plain", "accuracy"] == "fine"
    assert found["instruction agent", "echo", "lost"] == "unfit"
    assert found["response agent", "good", "lost"] == "fine"
    aucs = {measure: what for (_, _, measure), what in found.items() if measure.startswith("AUC")}
    assert aucs["AUC, small"] != "fine"
    assert aucs["AUC, large"] != "fine"
    assert "unfit" in aucs.values()
    echo = next(row for row in calibrated[3] if row.name == "echo" and row.subject == "instruction agent")
    assert echo.meaning == "12 of 12 rewrites are of no use: 12 echo"


def test_it_leaves_the_lake_as_it_was_and_the_run_does_not_ask_again_what_it_asked(calibrated):
    folder, config, lake, _, server = calibrated
    left = {path.relative_to(folder / "lake").parts[0] for path in (folder / "lake").rglob("*") if path.is_file()}
    assert left <= {"calibration", "journal", ".lock"}
    before, asked_before = len(server.requests), sent(server.requests)
    notes = Notes()
    outcome = run_pipeline(config, lake, [str(folder / "seeds.json")], notes, hashed(config, lake))
    asked = sent(server.requests[before:])
    assert outcome.published
    assert "unfit" in notes.said[0]
    assert notes.said[0].startswith("calibration of ")
    assert not asked & asked_before
    first = lake.read_table(tables.CANDIDATES, lake.catalog_shards()[0])
    assert sum(row.cost_usd for row in first) > 0
    assert all(row.attempts or row.pair_id == "seed" or row.slot for row in first)
    asked_of_first = {
        row.candidate_id for row in lake.read_table(tables.JUDGE_VERDICTS, lake.catalog_shards()[0]) if row.attempts
    }
    assert asked_of_first
    html = build_report(lake).html.decode()
    assert "calibration" in html
    assert "instruction agent unfit" in html


def test_the_command_says_it_exits_with_3_and_pays_nothing_the_second_time(calibrated):
    folder, config, lake, _, server = calibrated
    before, paid = (
        len(server.requests),
        sum(row.cost_usd for row in read_spend(folder / "lake" / "journal", lake.lake_id)),
    )
    said = CliRunner().invoke(app, ["calibrate", "--config", config, "--lake", str(folder / "lake"), "--count", "8"])
    assert said.exit_code == 3, said.output
    assert "judge" in said.output
    assert "star-pipeline" not in said.output.split("→")[0]
    assert len(server.requests) == before
    assert sum(row.cost_usd for row in read_spend(folder / "lake" / "journal", lake.lake_id)) == paid
    doctor = CliRunner().invoke(app, ["doctor", "--config", config, "--lake", str(folder / "lake")])
    assert "instruction agent, echo: unfit" in doctor.output
    words = (folder / "lake" / "calibration" / "README.md").read_text("utf-8")
    assert "**unfit**" in words


def test_the_run_after_a_calibration_publishes_what_was_found_and_the_one_after_that_has_nothing_to_do(calibrated):
    _, config, lake, _, server = calibrated
    run_calibration(config, lake, [], 6, SilentProgress(), hashed(config, lake))
    before = len(server.requests)
    outcomes = [run_pipeline(config, lake, [], SilentProgress(), hashed(config, lake)) for _ in range(2)]
    assert [outcome.published for outcome in outcomes] == [True, False]
    assert [outcome.shards for outcome in outcomes] == [(), ()]
    assert len(server.requests) == before
    with open_inspection(lake) as database:
        found = database.execute("SELECT subject, name, measure, verdict, seeds FROM calibration").fetchall()
    assert sorted(found, key=str) == sorted(
        ((row.subject, row.name, row.measure, row.verdict, 6) for row in read_findings(lake)), key=str
    )


def test_a_judge_that_goes_by_the_place_is_unfit_and_the_run_is_told(models, tmp_path):
    with chat_server(answers(by_place)) as server:
        config, lake = configured(tmp_path, models, server.url), Lake.at(tmp_path / "lake")
        assert "never done" in _told(lake, config)[0]
        found = run_calibration(config, lake, [str(tmp_path / "seeds.json")], 8, SilentProgress(), hashed(config, lake))
    assert verdict(found) == "unfit"
    of = verdicts_of(found)
    for measure in ("flip rate", "position lean", "accuracy, same", "decided"):
        assert of["judge", "plain", measure] == "unfit", measure
    assert any(line.split(": ", 1)[1].startswith("judge, plain: unfit (") for line in _told(lake, config))
    assert {row.fingerprint for row in read_findings(lake)} == {load_config(config).calibration_fingerprint}


def _told(lake, config):
    from star_pipeline.commands.calibrate import calibration_told

    return calibration_told(lake, load_config(config), config)


def test_the_budget_holds_and_mistakes_end_as_one_line(models, tmp_path):
    with chat_server(answers(faithful)) as server:
        config, lake = configured(tmp_path, models, server.url, budget={"usd": 0.001}), Lake.at(tmp_path / "lake")
        with pytest.raises(SeedError, match="--seeds FILE"):
            run_calibration(config, lake, [], 8, SilentProgress(), hashed(config, lake))
        with pytest.raises(ConfigError, match="--count 0"):
            run_calibration(config, lake, [], 0, SilentProgress(), hashed(config, lake))
        with pytest.raises(BudgetReached, match="raise budget"):
            run_calibration(config, lake, [str(tmp_path / "seeds.json")], 8, SilentProgress(), hashed(config, lake))
        assert 0 < sum(row.cost_usd for row in read_spend(tmp_path / "lake" / "journal", lake.lake_id)) <= 0.001
    assert not lake.calibration.exists()


def test_the_job_in_the_ui_finds_the_same(calibrated):
    folder, config, lake, _, server = calibrated
    before = len(server.requests)
    defs = build_defs(hashed(config, lake), config, str(folder / "lake"))
    with dg.DagsterInstance.ephemeral() as instance:
        result = defs.resolve_job_def("calibrate").execute_in_process(
            instance=instance, run_config={"ops": {"calibration": {"config": {"count": 8}}}}
        )
        assert result.success
        [made] = result.asset_materializations_for_node("calibration")
    assert made.metadata["verdict"].value == "unfit"
    assert made.metadata["seeds"].value == 8
    assert len(server.requests) == before


@pytest.mark.parametrize("lag", [0, 1, 2, 4])
def test_the_seeds_plan_is_the_one_that_the_run_then_draws_whatever_the_lag(tmp_path, lag):
    side = Lakeside(tmp_path)
    side.ease = 1.0
    side.configure(evolution={"rate": 0.05, "lag": lag})
    side.seeds(seed_rows(12))
    side.run(prefers_a)
    side.seeds(seed_rows(4, offset=100), "more.json")
    fakes = fake_resources(SettingsResource(config=str(side.config)), LakeResource(root=str(side.lake.root)))
    settings = load_config(str(side.config))
    memory = MemoryResource(
        lake=LakeResource(root=str(side.lake.root)), settings=SettingsResource(config=str(side.config))
    )
    first = first_seeds(side.lake, settings, (), 4, fakes["embedder"].embedder, memory.bank)
    side.run(prefers_a)
    assert list(first.plan) == side.lake.read_table(tables.SAMPLING_PLAN, side.lake.catalog_shards()[-1])
