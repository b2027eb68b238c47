"""The section of a study: absent by default, no part of a fingerprint, its files beside the configuration, each mistake one line."""

import inspect
from importlib import resources

import pytest
import yaml

from star_pipeline.adapters.offline.knowledge import shipped_examples
from star_pipeline.adapters.question_files import read_questions
from star_pipeline.config import load_config, study
from star_pipeline.config.scoring import LocalModel
from star_pipeline.config.section import Section
from star_pipeline.core.errors import ConfigError
from star_pipeline.core.publishing.overlap import Overlaps

MINIMAL = {
    "agents": {"a": {"model": "offline/tutor"}},
    "pairs": {"sampled": ["keep+a", "a+a"], "base": ["keep+a"]},
    "scoring": {"small": "s", "large": "l"},
    "judge": {"agent": "a"},
}


def loaded(tmp_path, **changes):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}))
    return load_config(str(path))


def test_there_is_none_unless_it_is_asked_for_and_it_leaves_every_fingerprint_as_it_was(tmp_path):
    plain, with_study = loaded(tmp_path), loaded(tmp_path, study={"arms": ["seeds", "ifd"], "seeds": [7]})
    assert plain.study is None
    for name in ("fingerprint", "dataset_fingerprint", "calibration_fingerprint"):
        assert getattr(plain, name) == getattr(with_study, name)


def test_the_defaults_are_the_papers_setting(tmp_path):
    knobs = loaded(tmp_path, study={}).study
    assert (knobs.arms, knobs.seeds, knobs.equalise) == (("seeds", "random", "star"), (0, 1, 2), "rows")
    tune = knobs.tune
    assert (tune.epochs, tune.learning_rate, tune.max_length, tune.batch_size) == (3, 2e-5, 2048, 64)
    assert knobs.models("s") == ("s",)


def test_every_knob_says_what_it_is():
    sections = [s for _, s in inspect.getmembers(study, inspect.isclass) if issubclass(s, Section)]
    sections = [s for s in sections if s.__module__ == study.__name__]
    assert len(sections) >= 8
    knobs = [(s.__name__, name, field) for s in sections for name, field in s.model_fields.items()]
    whole = {"tune", "evaluate", "lora"}
    assert [(s, name) for s, name, field in knobs if not field.description and name not in whole] == []


def test_files_lie_beside_the_configuration_and_what_is_no_file_is_a_hubs_name(tmp_path):
    (tmp_path / "own.jsonl").write_text("")
    evaluate = {
        "held_out": ["own.jsonl", "org/data"],
        "answers": {"questions": ["own.jsonl", "absent.jsonl"]},
        "ifeval": {"questions": ["own.jsonl"]},
    }
    knobs = loaded(tmp_path, study={"lakes": {"no_evolution": "../other"}, "evaluate": evaluate}).study
    own = str(tmp_path / "own.jsonl")
    assert knobs.evaluate.held_out == (own, "org/data")
    assert knobs.evaluate.answers.questions == (own, "absent.jsonl")
    assert knobs.evaluate.ifeval.questions == (own,)
    assert knobs.lakes == {"no_evolution": str(tmp_path / "../other")}
    assert knobs.arm_names == ("seeds", "random", "star", "no_evolution")


def test_what_decides_the_weights_is_not_where_they_are_computed():
    one = study.TuneConfig(device="cpu", device_batch_size=4, gradient_checkpointing=True)
    assert one.optimization == study.TuneConfig().optimization
    assert study.TuneConfig(epochs=1).optimization != study.TuneConfig().optimization
    assert study.TuneConfig(method="lora").optimization["lora"]["rank"] == 16


def test_targets_are_models_that_are_loaded_here(tmp_path):
    local = loaded(tmp_path, study={"targets": ["org/a", {"model": "org/b", "template": "chat"}]}).study
    assert local.models("s") == ("org/a", LocalModel(model="org/b", template="chat"))
    served = loaded(tmp_path, scoring={"small": "m@http://h:8000/v1", "large": "l"}, study={})
    with pytest.raises(ValueError, match=r"study\.targets: scoring\.small is m@http://h:8000/v1"):
        served.study.models(served.scoring.small)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"arms": ["best"]}, ["study.arms.0"]),
        ({"arms": ["star", "star"]}, ["arms names one twice"]),
        ({"seeds": [1, 1]}, ["seeds names one twice"]),
        ({"lakes": {"star": "x"}}, ["lakes.star", "choose another"]),
        ({"lakes": {"../x": "x"}}, ["study.lakes"]),
        ({"targets": ["m@http://h/v1"]}, ["on a server", "folder"]),
        ({"tune": {"lora": {"rank": 4}}}, ["method: lora"]),
        ({"tune": {"batch_size": 10, "device_batch_size": 4}}, ["device_batch_size: 4 does not divide"]),
        ({"evaluate": {"pairwise": {}}}, ["pairwise needs answers"]),
        ({"evaluate": {"answers": {"questions": ["q"]}, "pairwise": {"baseline": "ifd"}}}, ["baseline", "no arm"]),
        ({"evaluate": {"answers": {"questions": ["q"], "agent": "b"}}}, ["study.evaluate.answers.agent", "'b'"]),
        ({"evaluate": {"answers": {"questions": ["q"]}, "grades": {"judge": "b"}}}, ["grades.judge", "'b'"]),
        ({"evaluat": {}}, ["study.evaluat", "no such setting"]),
        ([1], ["study"]),
        ({"lakes": [1], "evaluate": {"answers": 3, "held_out": 4}}, ["study.lakes"]),
    ],
)
def test_a_mistake_is_one_line_with_the_field(tmp_path, section, words):
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, study=section)
    for word in words:
        assert word in str(error.value), str(error.value)
    assert "\n" not in str(error.value)


def test_the_offline_profiles_study_asks_what_is_no_seed_and_is_found_from_a_copy_too(tmp_path):
    settings = load_config("offline")
    wanted = settings.study
    questions = read_questions(wanted.evaluate.held_out, {}, answered=True)
    assert wanted.evaluate.answers.questions == wanted.evaluate.held_out
    assert len(questions) == 27
    assert len({question.category for question in questions}) == 9
    overlaps = Overlaps(questions)
    for example in shipped_examples():
        assert overlaps.first([example.instruction], [example.response]) is None
    copy = tmp_path / "mine.yaml"
    copy.write_text((resources.files("star_pipeline") / "profiles" / "offline.yaml").read_text("utf-8"))
    assert load_config(str(copy)).study == wanted


def test_what_was_written_out_with_its_defaults_is_read_again():
    assert study.TuneConfig.model_validate(study.TuneConfig().model_dump()) == study.TuneConfig()
