"""What overlaps with a question, and what does not; against a plain search for words in a row."""

import random

import pytest

from star_pipeline.core.publishing.overlap import LENGTH, Overlaps, words
from star_pipeline.core.study.records import Question

LONG = "Write a short story about a lighthouse keeper who finds a letter in a bottle from her own future."


def question(*turns, references=(), name="7"):
    filled = (*references, *[None] * len(turns))[: len(turns)]
    return Question(f"id{name}", "q.jsonl", 1, name, None, None, (), turns, filled)


def test_thirteen_words_in_a_row_overlap_wherever_they_stand_and_however_they_are_written():
    overlaps = Overlaps([question(LONG)])
    for text in (LONG, f"Please do this: {LONG.upper()} Thanks!", LONG.replace(" ", "\n * ").replace(",", "")):
        assert overlaps.first([text], []).question == "id7"
        assert overlaps.first([], [text]).where == "question 7 of q.jsonl"
    twelve = " ".join(words(LONG)[:12])
    assert overlaps.first([twelve], [twelve, f"{twelve} and then"]) is None
    found = overlaps.first(["no"], [f"then {' '.join(words(LONG)[2:16])}"])
    assert len(found.shared.split()) == LENGTH
    assert found.shared.split() == words(LONG)[2:15]


def test_a_short_question_overlaps_with_the_very_same_question_alone():
    overlaps = Overlaps([question("What is 2 + 2?", references=["Four."])])
    assert overlaps.first(["what is 2+2"], []).question == "id7"
    for asked, answers in ((["What is 2 + 2, please?"], []), ([], ["What is 2 + 2?"]), (["Four."], ["Four."])):
        assert overlaps.first(asked, answers) is None


def test_a_reference_answer_and_a_second_turn_overlap_too():
    overlaps = Overlaps(
        [question("Short?", LONG), question("Else?", references=[LONG.replace("letter", "note")], name="8")]
    )
    assert overlaps.first([LONG], []).question == "id7"
    found = overlaps.first([], [LONG.replace("letter", "note")])
    assert found.question == "id8"
    assert found.where == "the reference answer to question 8 of q.jsonl"


def test_scripts_without_blanks_count_by_characters():
    overlaps = Overlaps([question("请写一篇关于海边灯塔的短篇小说并附上结局")])
    assert overlaps.first(["好的：请写一篇关于海边灯塔的短篇小说吧"], []) is not None
    assert overlaps.first(["请写一篇关于海边的诗"], []) is None
    assert words("Grüße, 東京2024! don't_x") == ["grüsse", "東", "京", "2024", "don", "t", "x"]


def test_nothing_overlaps_with_no_question():
    assert Overlaps([]).first([LONG, ""], [LONG]) is None
    assert Overlaps([question("?!")]).first(["", "..."], [""]) is None


@pytest.mark.parametrize("number", range(30))
def test_it_finds_what_a_plain_search_finds(number):
    luck = random.Random(number)
    asked = [[luck.choice("ab") for _ in range(luck.randint(1, 30))] for _ in range(3)]
    text = [luck.choice("abc") if luck.random() < 0.06 else luck.choice("ab") for _ in range(400)]
    runs = {tuple(turn[n : n + LENGTH]) for turn in asked for n in range(len(turn) - LENGTH + 1)}
    plainly = any(tuple(text[n : n + LENGTH]) in runs for n in range(len(text) - LENGTH + 1))
    overlaps = Overlaps([question(" ".join(turn), name=str(n)) for n, turn in enumerate(asked)])
    assert (overlaps.first([" ".join(text)], []) is not None) == plainly
