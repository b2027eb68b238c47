"""Seeds: what a record becomes, and what is said of one that does not fit."""

import pytest

from star_pipeline.core.errors import SeedError
from star_pipeline.core.records import Message
from star_pipeline.core.seeds import make_seed, seed_from_alpaca

GOOD = {"instruction": "Add", "input": "1 and 2", "output": "3"}


def test_a_non_empty_input_is_appended_after_one_newline():
    assert seed_from_alpaca(GOOD, "f", 1, {}).instruction == "Add\n1 and 2"
    assert seed_from_alpaca({**GOOD, "input": ""}, "f", 1, {}).instruction == "Add"
    assert seed_from_alpaca({"instruction": "Add", "output": "3"}, "f", 1, {}).instruction == "Add"


def test_system_and_history_are_kept():
    seed = seed_from_alpaca({**GOOD, "system": "Be brief", "history": [["hi", "hello"]]}, "f", 1, {})
    assert seed.system == "Be brief"
    assert seed.history == (Message("user", "hi"), Message("assistant", "hello"))


def test_field_mapping():
    assert (
        seed_from_alpaca(
            {"prompt": "Q", "answer": "A"}, "f", 1, {"instruction": "prompt", "response": "answer"}
        ).response
        == "A"
    )


def test_a_seed_is_named_by_its_content_alone():
    one = seed_from_alpaca(GOOD, "f", 1, {})
    assert seed_from_alpaca(GOOD, "other", 9, {}).seed_id == one.seed_id
    assert seed_from_alpaca({**GOOD, "output": "4"}, "f", 1, {}).seed_id != one.seed_id
    # the border between instruction and response is part of the content
    assert make_seed("f", 1, None, (), "ab", "c").seed_id != make_seed("f", 1, None, (), "a", "bc").seed_id


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ([1], ["list", "object"]),
        ({"output": "x"}, ["'instruction'", "'output'", "seeds: {fields"]),
        ({"instruction": "x"}, ["'output'"]),
        ({"instruction": " ", "output": "x"}, ["empty", "'instruction'"]),
        ({"instruction": "x", "output": 7}, ["'output'", "int", "7", "expected text"]),
        ({**GOOD, "history": "hi"}, ["'history'", "list of [user, assistant]"]),
        ({**GOOD, "history": [["hi"]]}, ["'history'", "turn 1"]),
        ({**GOOD, "history": [["hi", 3]]}, ["turn 1"]),
    ],
)
def test_an_error_names_file_row_field_and_what_was_expected(record, words):
    with pytest.raises(SeedError) as error:
        seed_from_alpaca(record, "data/f.json", 12, {})
    assert "data/f.json, row 12" in str(error.value)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_an_empty_response_is_a_seed():
    assert seed_from_alpaca({**GOOD, "output": ""}, "f", 1, {}).response == ""
