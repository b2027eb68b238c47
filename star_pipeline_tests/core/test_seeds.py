"""Seeds: what a record of each format becomes, and what is said of one that does not fit."""

import pytest

from star_pipeline.core.errors import SeedError
from star_pipeline.core.records import Message, RejectedRow
from star_pipeline.core.seeds import RowError, make_seed, seeds_of

GOOD = {"instruction": "Add", "input": "1 and 2", "output": "3"}
TURNS = [("system", "Be brief"), ("user", "hi"), ("assistant", "hello"), ("user", "bye?"), ("assistant", "Bye.")]
SHAREGPT = {"conversations": [{"from": {"user": "human", "assistant": "gpt"}.get(r, r), "value": v} for r, v in TURNS]}
MESSAGES = {"messages": [{"role": r, "content": v} for r, v in TURNS]}


def read(*records, fields=None, skip=False):
    return list(seeds_of(iter(enumerate(records, start=1)), "data/f.json", fields or {}, skip))


def one(record, fields=None):
    [seed] = read(record, fields=fields)
    return seed


def test_a_non_empty_input_is_appended_after_one_newline():
    assert one(GOOD).instruction == "Add\n1 and 2"
    assert one({**GOOD, "input": ""}).instruction == "Add"
    assert one({"instruction": "Add", "output": "3"}).instruction == "Add"


def test_system_and_history_are_kept():
    seed = one({**GOOD, "system": "Be brief", "history": [["hi", "hello"]]})
    assert seed.system == "Be brief"
    assert seed.history == (Message("user", "hi"), Message("assistant", "hello"))


def test_sharegpt_and_messages_hold_the_same_seed():
    expected = make_seed(
        "data/f.json", 1, "Be brief", (Message("user", "hi"), Message("assistant", "hello")), "bye?", "Bye."
    )
    assert one(SHAREGPT) == one(MESSAGES) == expected
    assert one({"conversations": SHAREGPT["conversations"][1:], "system": "Be brief"}) == expected
    parts = [{"type": "text", "text": "by"}, {"type": "text", "text": "e?"}]
    assert (
        one({"messages": [*MESSAGES["messages"][:3], {"role": "user", "content": parts}, MESSAGES["messages"][4]]})
        == expected
    )


def test_field_mapping():
    assert one({"prompt": "Q", "answer": "A"}, {"instruction": "prompt", "response": "answer"}).response == "A"
    mapped = one({"input": "Q", "output": "A"}, {"instruction": "input", "response": "output"})
    assert (mapped.instruction, mapped.response) == ("Q", "A")
    assert one({"chat": MESSAGES["messages"]}, {"messages": "chat"}).instruction == "bye?"


def test_a_seed_is_named_by_its_content_alone():
    seed = one(GOOD)
    [other] = seeds_of(iter([(9, GOOD)]), "other", {}, False)
    assert other.seed_id == seed.seed_id
    assert one({**GOOD, "output": "4"}).seed_id != seed.seed_id
    # the border between instruction and response is part of the content
    assert make_seed("f", 1, None, (), "ab", "c").seed_id != make_seed("f", 1, None, (), "a", "bc").seed_id


def with_turn(number, **changes):
    turns = [dict(turn) for turn in MESSAGES["messages"]]
    turns[number].update(changes)
    return {"messages": turns}


BAD = [
    ([1], ["a list", "object"]),
    ("text", ["text", "object"]),
    ({"output": "x"}, ["'instruction'", "'conversations'", "'messages'", "it holds 'output'", "seeds: {fields"]),
    ({"instruction": "x"}, ["field 'output'", "missing", "'instruction'"]),
    ({"instruction": " ", "output": "x"}, ["field 'instruction'", "empty"]),
    ({"instruction": 5, "output": "x"}, ["field 'instruction'", "a number (5)", "expected text"]),
    ({"instruction": "x", "output": 7.5}, ["field 'output'", "a number (7.5)", "expected text"]),
    ({**GOOD, "history": "hi"}, ["field 'history'", "list of [user, assistant]"]),
    ({**GOOD, "history": [["hi"]]}, ["field 'history[0]'"]),
    ({**GOOD, "history": [["hi", 3]]}, ["field 'history[0]'"]),
    ({"messages": "hi"}, ["field 'messages'", "text", "list of turns"]),
    ({"messages": []}, ["field 'messages'", "no turns"]),
    ({"messages": ["hi"]}, ["field 'messages[0]'"]),
    ({"messages": MESSAGES["messages"][:4]}, ["ends with the user's turn"]),
    ({"messages": MESSAGES["messages"][:1]}, ["system turn alone"]),
    (with_turn(2, role="tool"), ["field 'messages[2].role'", "'tool'"]),
    (with_turn(2, tool_calls=[{}]), ["messages[2].tool_calls"]),
    (with_turn(3, role="assistant"), ["follows no turn of the user"]),
    (with_turn(3, role="system"), ["system turn after"]),
    (with_turn(3, content=3), ["field 'messages[3].content'", "a number"]),
    (with_turn(3, content=[{"type": "image_url"}]), ["messages[3].content", "no text"]),
    (with_turn(3, content=" "), ["field 'messages[3]'", "empty"]),
    (
        {"conversations": [{"from": "human", "value": "x"}, {"from": "function_call", "value": "{}"}]},
        ["conversations[1].from", "function_call"],
    ),
    (RowError("no valid JSON at column 3"), ["no valid JSON at column 3"]),
]


@pytest.mark.parametrize(("record", "words"), BAD)
def test_an_error_names_file_row_field_and_what_was_expected(record, words):
    with pytest.raises(SeedError) as error:
        read(record)
    text = str(error.value)
    assert text.startswith("data/f.json, row 1")
    assert all(word in text for word in words), text
    assert "\n" not in text


@pytest.mark.parametrize(("record", "words"), BAD)
def test_a_bad_row_is_skipped_with_its_reason_and_the_rest_goes_on(record, words):
    [rejected] = read(record, skip=True)
    assert isinstance(rejected, RejectedRow)
    assert (rejected.source, rejected.source_row) == ("data/f.json", 1)
    assert all(word in f"field {rejected.reason}" for word in words), rejected.reason
    assert isinstance(read(record, GOOD, skip=True)[0], RejectedRow)


def test_the_format_is_the_files_not_the_rows():
    with pytest.raises(SeedError, match="row 2, field 'output'"):
        read(GOOD, {"instruction": "x", **MESSAGES})
    mixed = read(GOOD, MESSAGES, GOOD, skip=True)
    assert [type(row).__name__ for row in mixed] == ["Seed", "RejectedRow", "Seed"]


def test_an_empty_response_is_a_seed():
    assert one({**GOOD, "output": ""}).response == ""
