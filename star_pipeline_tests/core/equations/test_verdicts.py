"""Eq. 6: replies as they come, and what two of them say together."""

import itertools
import json

import pytest

from star_pipeline.core.equations.verdicts import combine, outcome, parse_verdict

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
    ("Both are good.\nA conclusion:", None),
    ("Both are good.\nA final verdict", None),
    ("[B] is my verdict", "B"),
    ("<think>I weigh it.\n[A]\n</think>\nConclusion: [B]<|im_end|>", "B"),
    ("I lean to [A].\n</think>\n\nNone is better.\n[C]", "C"),
    ("Sample A quotes <think> in its answer.\n[B]", "B"),
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


def test_real_pairwise_replies_are_read_as_fastchat_read_them(shared_data):
    read = 0
    for line in shared_data("fastchat/judgments/skycamp_gpt-4_pair_80k.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        for game, first in (("g1", "model_1"), ("g2", "model_2")):
            winner = row[f"{game}_winner"]
            expected = "C" if winner == "tie" else "A" if winner == first else "B"
            assert parse_verdict(row[f"{game}_judgment"]) == expected
            read += 1
    assert read >= 20


def test_real_replies_without_a_verdict_are_given_none(shared_data):
    replies = [
        json.loads(line)["judgment"]
        for name in ("arena_hard_1k_gpt-4_single_bk", "mtb_result_gpt-4_single_pr2906", "skycamp_gpt-4_single")
        for line in shared_data(f"fastchat/judgments/{name}.jsonl").read_text("utf-8").splitlines()
    ]
    for path in shared_data("fastchat/vicuna_eval/review").rglob("*.jsonl"):
        replies += [json.loads(line)["text"] for line in path.read_text("utf-8").splitlines()]
    assert len(replies) > 1000
    assert [reply[-80:] for reply in replies if parse_verdict(reply)] == []


def test_real_reviews_reshaped_to_the_verdict_form_are_read_as_their_scores_say(shared_data):
    right = wrong = 0
    for path in shared_data("cherry/logs").glob("*.json"):
        for row in json.loads(path.read_text("utf-8"))["data"]:
            for review, scores in ((row["review"], row["scores"]), (row["review_reverse"], row["scores_reverse"])):
                try:
                    first, second = json.loads(scores)
                except (ValueError, TypeError):
                    continue
                verdict = "C" if first == second else "A" if first > second else "B"
                prose = review.partition("\n")[2].strip()
                for form in (
                    "{p}\n\n[{v}]",
                    "[{v}]\n{p}",
                    "{p}\n\n**Final verdict: [[{v}]]**",
                    "{p} [{v}]",
                    "{p}\nSo my verdict is [{v}].",
                ):
                    if parse_verdict(form.format(p=prose, v=verdict)) == verdict:
                        right += 1
                    else:
                        wrong += 1
    assert right > 4000
    assert right / (right + wrong) >= 0.999
