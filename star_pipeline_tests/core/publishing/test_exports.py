"""Each form against what its readers expect, and back through the project's own reader of seeds."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.intake.formats import DEFAULT_FIELDS, detect
from star_pipeline.core.publishing.exports import (
    FORMS,
    NoRecord,
    Remark,
    alpaca,
    messages,
    prompt_completion,
    scores,
    sharegpt,
)
from star_pipeline.core.records import Message, StarRow

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMED = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def star_row(system=None, history=(), instruction="Why?", response="Because.", **changes):
    opening = [Message("system", system)] if system else []
    turns = [*opening, *history, Message("user", instruction), Message("assistant", response)]
    row = {
        "seed_id": "s1",
        "messages": tuple(turns),
        "instruction": instruction,
        "response": response,
        "pair_id": "keep+a",
        "pi": 0.5,
        "pi_dual": 1.0,
        "pi_llm": 0.5,
        "ifd_small": 0.9,
        "ifd_large": 0.8,
        "gap": 0.1,
        "shard": "000001-x",
        "source": "x.json",
        "source_row": 1,
        "candidate_id": "c1",
        "selection": "best",
    }
    return StarRow(**{**row, **changes})


EARLIER = (Message("user", "Hello"), Message("assistant", "Hi"))


def test_the_forms_word_for_word():
    row = star_row("Be brief.", EARLIER)
    system, hello, hi, why, because = (
        {"role": role, "content": text}
        for role, text in (
            ("system", "Be brief."),
            ("user", "Hello"),
            ("assistant", "Hi"),
            ("user", "Why?"),
            ("assistant", "Because."),
        )
    )
    assert messages(row) == {"messages": [system, hello, hi, why, because]}
    assert prompt_completion(row) == {"prompt": [system, hello, hi, why], "completion": [because]}
    assert sharegpt(row) == {
        "id": "s1",
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "Hello"},
            {"from": "gpt", "value": "Hi"},
            {"from": "human", "value": "Why?"},
            {"from": "gpt", "value": "Because."},
        ],
    }
    assert alpaca(row) == {
        "instruction": "Why?",
        "input": "",
        "output": "Because.",
        "system": "Be brief.",
        "history": [["Hello", "Hi"]],
    }
    assert scores(row) == {
        "seed_id": "s1",
        "pair_id": "keep+a",
        "candidate_id": "c1",
        "pi": 0.5,
        "gap": 0.1,
        "ifd_small": 0.9,
        "ifd_large": 0.8,
        "source": "x.json",
        "selection": "best",
    }


@pytest.mark.parametrize("roles", ["a", "u", "au", "uu", "uau", "uaau", "uaa"])
def test_alpaca_says_that_it_has_no_words_for_turns_that_are_no_pairs(roles):
    history = [Message({"u": "user", "a": "assistant"}[role], "text") for role in roles]
    assert alpaca(star_row("system", history)) is NoRecord.NO_PAIRS
    assert isinstance(sharegpt(star_row("system", history)), dict)


@pytest.mark.parametrize(
    ("roles", "kept", "told"),
    [
        ("", "ua", []),
        ("ua", "uaua", []),
        ("a", "ua", [Remark.OPENING_CUT]),
        ("aaua", "uaua", [Remark.OPENING_CUT]),
        ("u", "uua", [Remark.OUT_OF_TURN]),
        ("auaa", "uaaua", [Remark.OPENING_CUT, Remark.OUT_OF_TURN]),
    ],
)
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_sharegpt_begins_with_the_user_and_what_trainers_drop_is_told(system, roles, kept, told):
    names = {"u": "user", "a": "assistant"}
    row = star_row(system, [Message(names[role], str(place)) for place, role in enumerate(roles)])
    turns = sharegpt(row)["conversations"]
    if system:
        assert turns.pop(0) == {"from": "system", "value": system}
    assert "".join({"human": "u", "gpt": "a"}[turn["from"]] for turn in turns) == kept
    assert [turn["value"] for turn in turns[-2:]] == ["Why?", "Because."]
    said = [turn.role for turn in row.messages]
    assert list(FORMS["sharegpt"].remarks(said)) == told
    opened = [Remark.ASSISTANT_FIRST] if roles[:1] == "a" else []
    for form in ("messages", "prompt-completion", "preference"):
        assert list(FORMS[form].remarks(said)) == opened
    assert not list(FORMS["alpaca"].remarks(said))


@given(st.none() | NAMED, st.lists(st.tuples(TEXT, TEXT), max_size=3), TEXT, TEXT)
@pytest.mark.parametrize("form", ["alpaca", "sharegpt", "messages"])
def test_a_record_read_back_as_a_seed_is_what_was_written(form, system, pairs, instruction, response):
    history = tuple(
        turn for user, assistant in pairs for turn in (Message("user", user), Message("assistant", assistant))
    )
    row = star_row(system, history, instruction, response)
    record = json.loads(json.dumps(FORMS[form].record(row)))
    read = detect(record, {})
    assert read.name == form
    parts = read.read(record, DEFAULT_FIELDS)
    assert (parts.system, parts.history, parts.instruction, parts.response) == (system, history, instruction, response)


def test_a_record_has_the_fields_that_its_form_declares():
    for form in FORMS.values():
        names = [field.name for field in form.fields]
        assert set(form.optional) <= set(names)
        if form.record:
            assert list(form.record(star_row())) == names
