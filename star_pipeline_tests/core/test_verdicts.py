"""Eq. 6: replies as they come, and what two of them say together."""

import itertools

import pytest

from star_pipeline.core.verdicts import combine, outcome, parse_verdict

REPLIES = [
    ("A is deeper.\n[A]", "A"),
    ("Both fine.\n\n[C]", "C"),
    ("[[B]]", "B"),
    ("My final verdict is: [[A]]", "A"),
    ("**[B]**", "B"),
    ("**Final Verdict: [B]**", "B"),
    ("[**A**]", "A"),
    ("[b]", "B"),
    ("【A】", "A"),
    ("［Ｂ］", "B"),
    ("最终判决：[A]", "A"),
    ("If A were better I would say [A], if B, [B].\nBut they are equal.\n[C]", "C"),
    ("The format is [A], [B] or [C].\n\nAssistant B explains more.\n\n[B]\n", "B"),
    ("<think>[A] at first… no, [B]</think>\nShort comparison.\n[B]", "B"),
    ("<think>I lean to [A]", None),
    ("I would normally say [A].\nVerdict: B", "B"),
    ("Verdict: [A] or [B], hard to say", None),
    ("Assistant A wins", None),
    ("", None),
    ("   \n", None),
    ("I cannot decide.", None),
    ("A list [1], [2], [a] cites", None),
    ("[A]\n[B]", None),
    ("First verdict: [A]\nOn second thought B is right.\nFinal verdict: [B]", "B"),
    ("a", "A"),
    ("The answer is a", None),
    ("[D]", None),
    ("Final verdict: B", "B"),
    ("B", "B"),
    ("[A]\n[A]", "A"),
    ("Assistant A: good. Assistant B: better. So [B] it is.", "B"),
]


@pytest.mark.parametrize(("reply", "expected"), REPLIES)
def test_a_reply_is_read_as_its_text_says(reply, expected):
    assert parse_verdict(reply) == expected


def test_the_candidates_fate_depends_on_where_it_stood():
    assert [outcome(choice, "A") for choice in "ABC"] == ["better", "worse", "tie"]
    assert [outcome(choice, "B") for choice in "ABC"] == ["worse", "better", "tie"]


def test_both_orders_together_by_the_book():
    expected = {
        ("better", "better"): ("better", False, 1.0),
        ("worse", "worse"): ("worse", False, 0.0),
        ("tie", "tie"): ("tie", False, 0.5),
        ("better", "worse"): ("inconsistent", True, 0.5),
        ("worse", "better"): ("inconsistent", True, 0.5),
        ("better", "tie"): ("tie", False, 0.5),
        ("tie", "better"): ("tie", False, 0.5),
        ("worse", "tie"): ("tie", False, 0.5),
        ("tie", "worse"): ("tie", False, 0.5),
    }
    for orders in itertools.product(("better", "worse", "tie"), repeat=2):
        assert combine(*orders, "tie") == expected[orders]
    assert combine("better", "worse", "abstain") == ("inconsistent", True, None)
    assert combine("tie", "worse", "abstain") == ("tie", False, 0.5)
