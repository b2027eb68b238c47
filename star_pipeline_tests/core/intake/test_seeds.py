"""Seeds: what a record of each format becomes, and what is said of one that does not fit."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.errors import SeedError
from star_pipeline.core.intake.json_text import parse
from star_pipeline.core.intake.seeds import RowError, SeedRules, make_seed, seeds_of
from star_pipeline.core.records import Message, RejectedRow

GOOD = {"instruction": "Add", "input": "1 and 2", "output": "3"}
TURNS = [("system", "Be brief"), ("user", "hi"), ("assistant", "hello"), ("user", "bye?"), ("assistant", "Bye.")]
SHAREGPT = {"conversations": [{"from": {"user": "human", "assistant": "gpt"}.get(r, r), "value": v} for r, v in TURNS]}
MESSAGES = {"messages": [{"role": r, "content": v} for r, v in TURNS]}


def read(*records, fields=None, skip=False, turns="last"):
    rules = SeedRules(fields or {}, skip, turns)
    return list(seeds_of(iter(enumerate(records, start=1)), "data/f.json", rules))


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


def test_turns_may_be_named_in_either_way_under_either_field():
    expected = one(MESSAGES)
    openai, shared = MESSAGES["messages"], SHAREGPT["conversations"]
    whole = [dict.fromkeys(("from", "value", "role", "content")) | turn for turn in shared]  # as Parquet gives them
    mixed = [{"role": turn["role"], "value": turn["content"]} for turn in openai]
    for turns in (openai, shared, whole, mixed, [*openai[:2], *shared[2:]], json.dumps(openai)):
        assert one({"conversations": turns}) == one({"messages": turns}) == expected
        assert one({"chat": turns}, {"conversations": "chat"}) == expected
    with pytest.raises(SeedError, match=r"field 'conversations\[0\].from': role None cannot be used; expected one of"):
        one({"conversations": [{"speaker": "user", "text": "q"}]})


def test_a_field_that_is_there_twice_is_refused_where_it_is_read():
    for text, field in (
        ('{"instruction": "q", "output": "a", "output": ""}', "'output'"),
        ('{"messages": [{"role": "user", "content": "q", "content": "r"}]}', r"'messages\[0\].content'"),
    ):
        with pytest.raises(SeedError, match=f"row 1, field {field}: there twice"):
            one(parse(text))
    assert one(parse('{"instruction": "q", "output": "a", "meta": {"x": 1, "x": 2}}')).response == "a"


def test_field_mapping():
    assert one({"prompt": "Q", "answer": "A"}, {"instruction": "prompt", "response": "answer"}).response == "A"
    mapped = one({"input": "Q", "output": "A"}, {"instruction": "input", "response": "output"})
    assert (mapped.instruction, mapped.response) == ("Q", "A")
    assert one({"chat": MESSAGES["messages"]}, {"messages": "chat"}).instruction == "bye?"


def test_a_seed_is_named_by_its_content_alone():
    seed = one(GOOD)
    [other] = seeds_of(iter([(9, GOOD)]), "other", SeedRules())
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


def said(seed):
    """The whole conversation of a seed."""
    return (*seed.history, Message("user", seed.instruction), Message("assistant", seed.response))


def sharegpt(*turns):
    return {"conversations": [{"from": {"u": "human", "a": "gpt"}[role], "value": text} for role, text in turns]}


def test_every_turn_of_a_conversation_is_a_seed_with_all_before_it_as_history():
    for record in (SHAREGPT, MESSAGES):
        first, last = read(record, turns="every")
        assert (first.system, first.history, first.instruction, first.response) == ("Be brief", (), "hi", "hello")
        assert [last] == read(record)
    alpaca = {**GOOD, "system": "S", "history": [["hi", "hello"], ["so?", "so"]]}
    seeds = read(alpaca, GOOD, turns="every")
    assert [(seed.source_row, len(seed.history), seed.instruction) for seed in seeds] == [
        (1, 0, "hi"),
        (1, 2, "so?"),
        (1, 4, "Add\n1 and 2"),
        (2, 0, "Add\n1 and 2"),
    ]
    assert {seed.system for seed in seeds[:3]} == {"S"}


def test_a_greeting_and_a_question_that_another_follows_are_history_alone():
    record = sharegpt(
        ("a", "Welcome!"), ("u", "One."), ("u", "Two?"), ("a", "2"), ("a", "Or more."), ("u", "Three?"), ("a", "3")
    )
    seeds = read(record, turns="every")
    assert [(seed.instruction, seed.response) for seed in seeds] == [("Two?", "2"), ("Three?", "3")]
    assert [turn.content for turn in seeds[0].history] == ["Welcome!", "One."]
    assert [turn.content for turn in seeds[1].history] == ["Welcome!", "One.", "Two?", "2", "Or more."]
    assert read(record) == seeds[1:]


@given(st.lists(st.tuples(st.sampled_from("ua"), st.text("xyz ", max_size=2)), max_size=8), st.text("xyz", min_size=1))
def test_whatever_the_order_of_speakers_every_turn_ends_with_the_last_and_never_changes_what_came_before(
    turns, question
):
    record = sharegpt(*turns, ("u", question), ("a", "answer"))
    whole = tuple(
        Message({"u": "user", "a": "assistant"}[role], text)
        for role, text in [*turns, ("u", question), ("a", "answer")]
    )
    seeds = [seed for seed in read(record, turns="every", skip=True) if not isinstance(seed, RejectedRow)]
    assert seeds[-1:] == read(record)
    ends = [
        n + 2
        for n in range(len(whole) - 1)
        if whole[n].role == "user" and whole[n + 1].role == "assistant" and whole[n].content.strip()
    ]
    assert [said(seed) for seed in seeds] == [whole[:end] for end in ends]
    assert len({seed.seed_id for seed in seeds}) == len(seeds)


def test_a_conversation_that_begins_another_gives_the_same_seeds():
    short = sharegpt(("u", "1?"), ("a", "1"), ("u", "2?"), ("a", "2"))
    long = sharegpt(("u", "1?"), ("a", "1"), ("u", "2?"), ("a", "2"), ("u", "3?"), ("a", "3"))
    ids = [seed.seed_id for seed in read(short, long, turns="every")]
    assert ids[:2] == ids[2:4]
    assert len(set(ids)) == 3


def test_a_turn_without_a_question_is_left_out_by_itself_and_an_empty_answer_is_a_seed():
    record = {
        "messages": [
            MESSAGES["messages"][0],
            *sharegpt_as_messages(("u", " "), ("a", "?"), ("u", "q"), ("a", ""), ("u", "r"), ("a", "s")),
        ]
    }
    with pytest.raises(SeedError, match=r"row 1, field 'messages\[1\]': empty"):
        read(record, turns="every")
    rejected, empty, last = read(record, turns="every", skip=True)
    assert rejected == RejectedRow("data/f.json", 1, "field 'messages[1]': empty, expected an instruction")
    assert (empty.instruction, empty.response) == ("q", "")
    assert [last] == read(record)
    with pytest.raises(SeedError, match=r"row 1, field 'history\[1\]': empty"):
        read({**GOOD, "history": [["q", "a"], ["", "b"]]}, turns="every")
    # what cannot be used as a whole gives no turn at all
    [rejected] = read({"messages": MESSAGES["messages"][:4]}, turns="every", skip=True)
    assert "ends with the user's turn" in rejected.reason


def sharegpt_as_messages(*turns):
    return [{"role": {"u": "user", "a": "assistant"}[role], "content": text} for role, text in turns]
