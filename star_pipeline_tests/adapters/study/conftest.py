"""A small model, and rows that it can learn by heart."""

import pytest
from star_pipeline_tests.tiny_models import save_model

from star_pipeline.core.ports import ScoringSample
from star_pipeline.core.records import Message

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


TEXTS = [text for row in rows() for text in (row.instruction, row.response)] + ["Below is ### Instruction: Response:\n\n"]


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A GPT-NeoX folder without a chat template."""
    return save_model(tmp_path_factory.mktemp("base"), "gpt_neox", TEXTS * 3, hidden=32, initializer_range=0.02)
