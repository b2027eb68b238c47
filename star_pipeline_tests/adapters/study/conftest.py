"""A small model, and rows that it can learn by heart."""

import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.adapters.study import Form, tune
from star_pipeline.config import StarConfig
from star_pipeline.config.study import TuneConfig
from star_pipeline.core.ports import ScoringSample
from star_pipeline.core.records import Message
from star_pipeline.core.study.records import Question
from star_pipeline_tests.conftest import CONFIG
from star_pipeline_tests.tiny_models import save_model

WORDS = ("apple", "pear", "plum", "cherry", "grape", "fig")
HISTORY = (Message("user", "Do you know fruit?"), Message("assistant", "I do."))


def rows(count=24):
    return [
        ScoringSample(
            "Be short." if number % 3 == 0 else None,
            HISTORY if number % 4 == 0 else (),
            f"Say {WORDS[number % 6]}.",
            f"The word is {WORDS[number % 6]}.",
        )
        for number in range(count)
    ]


TEXTS = [text for row in rows() for text in (row.instruction, row.response)] + [
    "Below is ### Instruction: Response:\n\n"
]


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A GPT-NeoX folder without a chat template."""
    return save_model(tmp_path_factory.mktemp("base"), "gpt_neox", TEXTS * 3, hidden=32, initializer_range=0.02)


@pytest.fixture(scope="session")
def tuned_folder(base, tmp_path_factory):
    """The same, tuned on the rows until it ends its answers."""
    how = TuneConfig(batch_size=8, learning_rate=5e-3, epochs=12, device="cpu")
    return tune(
        str(base), rows(), tmp_path_factory.mktemp("model") / "0123", how, Form("alpaca"), 0, SilentProgress()
    ).folder


def question(name, *turns, references=(), category=None, system=None, history=()):
    given = references or (None,) * len(turns)
    return Question(name, "questions.jsonl", 1, name, category, system, tuple(history), turns, tuple(given))


QUESTIONS = [
    question("q0", "Say apple."),
    question("q1", "Say pear.", "Say plum."),
    question("q2", "Say fig. " * 20, "And once more: say fig.", history=HISTORY),
    question("q3", "Do you know fruit?", system="Be short."),
]


def settings(**changes):
    return StarConfig.model_validate({**CONFIG, "scoring": {**CONFIG["scoring"], "template": "alpaca"}, **changes})


@pytest.fixture
def lake(tmp_path):
    made = Lake.at(tmp_path / "lake")
    made.prepare()
    return made
