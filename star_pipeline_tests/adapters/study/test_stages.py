"""A study from its arms to its results, with a small model: what is better is found, what is the same is not told apart."""

import json
from dataclasses import replace

import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.adapters.study.stages import study_stages
from star_pipeline.adapters.study_files import write_arms
from star_pipeline.core.records import Message
from star_pipeline.core.study.arms import content
from star_pipeline.core.study.flow import carry_out, trainings
from star_pipeline.core.study.records import ArmRow, StudyArm
from star_pipeline_tests.adapters.study.conftest import WORDS, settings
from star_pipeline_tests.llm_server import chat_server


def arm_row(number, response):
    asked = f"Say {WORDS[number % 6]}."
    messages = (Message("user", asked), Message("assistant", response))
    return ArmRow(str(number), None, "000001-x", messages, asked, response, "seed", 5, None, "rule")


RIGHT = [arm_row(n, f"The word is {WORDS[n % 6]}.") for n in range(24)]
SHUFFLED = [arm_row(n, f"{WORDS[(n + 3) % 6]} is word The.") for n in range(24)]
ARMS = {"seeds": RIGHT, "star": [replace(row, seed_id=f"x{row.seed_id}") for row in RIGHT], "random": SHUFFLED}


def judged(request):
    """A judge that likes short answers, and grades all alike."""
    return "[[5]]" if "Assistant's Answer" in request["messages"][-1]["content"] else "[C]"


@pytest.fixture(scope="module")
def server():
    with chat_server(judged) as running:
        yield running


@pytest.fixture(scope="module")
def study(base, tmp_path_factory, server):
    """(the lake, its configuration): three arms, of which two are the same rows, and two training seeds."""
    folder = tmp_path_factory.mktemp("study")
    held_out = [{"instruction": f"Say {word}.", "input": "", "output": f"The word is {word}."} for word in WORDS]
    (folder / "held_out.json").write_text(json.dumps(held_out))
    evaluate = {
        "held_out": [str(folder / "held_out.json")],
        "answers": {"questions": [str(folder / "held_out.json")], "max_tokens": 8},
        "pairwise": {},
        "grades": {},
    }
    agents = {name: {"model": f"hosted_vllm/{name}", "api_base": server.url} for name in "ab"}
    tune = {"batch_size": 8, "device_batch_size": 8, "learning_rate": 5e-3, "epochs": 2, "device": "cpu"}
    wanted = {"arms": list(ARMS), "seeds": [0, 1], "tune": tune, "evaluate": evaluate}
    scoring = {"small": str(base), "large": "l", "template": "alpaca", "device": "cpu"}
    lake = Lake.at(folder / "lake")
    lake.prepare()
    write_arms(
        lake,
        ARMS,
        [StudyArm(arm, arm, 24, 120, 0, 0, None, 0, 0, 0, 0, content(rows)) for arm, rows in ARMS.items()],
        [],
    )
    return lake, settings(agents=agents, scoring=scoring, study=wanted)


class Ended(Exception):
    """What a kill would be, for a process that goes on with the tests."""


class Stopped(SilentProgress):
    """Ends the work at a stage whose name holds ``at``, once it is half way."""

    def __init__(self, at):
        self.at, self.name, self.total, self.done = at, "", 0, 0

    def stage(self, name, total, later=0.0):
        self.name, self.total, self.done = name, total, 0

    def advance(self, count=1):
        self.done += count
        if self.at in self.name and 2 * self.done >= self.total:
            raise Ended


def carried_out(study, progress=None):
    lake, config = study
    tuner, evaluations = study_stages(lake, config, progress or SilentProgress())
    planned = trainings([str(config.scoring.small)], [(arm, content(rows)) for arm, rows in ARMS.items()], (0, 1))
    return carry_out(planned, tuner, evaluations, "seeds")


def test_a_study_that_is_stopped_everywhere_ends_with_the_same_tables_and_nothing_is_asked_twice(study, server):
    for at in ("seed 1", "answers of", "grades of"):
        with pytest.raises(Ended):
            carried_out(study, Stopped(at))
    found = carried_out(study)
    asked = len(server.requests)
    again = carried_out(study)
    assert len(server.requests) == asked
    assert again == found
    said = [json.dumps(request["messages"]) for request in server.requests]
    assert len(set(said)) == len(said)
    models = {model.folder for model in found.models}
    assert len(found.models) == 6
    assert len(models) == 4  # star and seeds are the same rows
    lake, _ = study
    assert {path.name for path in (lake.study / "models").iterdir() if not path.name.startswith(".")} == {
        model.model_id for model in found.models
    }


def test_the_better_arm_is_found_and_equal_arms_are_not_told_apart(study):
    found = carried_out(study)
    rows = {(row.arm, row.measure): row for row in found.results if row.part == "all"}
    worse = rows["random", "held_out_loss"]
    assert worse.low > 0
    assert worse.shown == "worse"
    same = rows["star", "held_out_loss"]
    assert same.difference == 0
    assert same.shown == "no difference shown"
    assert len(found.measured.losses) == 3 * 2 * 6
    assert {row.verdict for row in found.measured.wins if row.arm == "star"} == {"tie"}
    assert len(found.measured.grades) == 36
    assert {row.grade for row in found.measured.grades} == {5.0}
