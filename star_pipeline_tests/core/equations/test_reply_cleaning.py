"""What of a reply is the answer: marks of reasoning and of turns come off, texts that talk of them stay."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_pipeline.core.equations.reply_cleaning import Spoken, spoken
from star_pipeline.core.equations.verdicts import parse_verdict

TEXT = "First, the answer."
THOUGHT = {
    "no opening mark": f"Okay.\n</think>\n\n{TEXT}",
    "no opening mark, one line": f"Okay.</think>{TEXT}",
    "a newline before it": f"\n<think>\nOkay\n</think>\n\n{TEXT}",
    "a byte order mark before it": f"\ufeff <think>a</think>{TEXT}",
    "on one line": f"<think>short </think> {TEXT}",
    "magistral": f"[THINK]Okay[/THINK]{TEXT}",
    "kimi": f"◁think▷a◁/think▷{TEXT}",
    "seed-oss": f"<seed:think>a<seed:cot_budget_reflect>x</seed:cot_budget_reflect></seed:think>{TEXT}",
    "sky-t1": f"<|begin_of_thought|>\na\n<|end_of_thought|>\n\n<|begin_of_solution|>\n{TEXT}\n<|end_of_solution|>",
    "command-a": f"<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>{TEXT}<|END_RESPONSE|>",
    "gemma": f"<|channel>thought\nabc<channel|>{TEXT}<turn|>",
    "minimax": f"<mm:think>a</mm:think>{TEXT}",
    "longcat": f"<longcat_think>\na\n</longcat_think>\n{TEXT}",
    "in words": f"<thought_process>a</thought_process>\n<answer>{TEXT}</answer>",
    "a chat's page": f'<details type="reasoning" done="true" duration="3">\n<summary>Thought</summary>\n> a\n</details>\n{TEXT}',
    "a command line": f"Thinking...\nOkay, a.\n...done thinking.\n\n{TEXT}",
    "exaone": f"<thought>\na\n</thought>\n{TEXT}",
    "hunyuan": f"<think>a</think>\n<answer>\n{TEXT}\n</answer>",
    "harmony": (
        f"<|channel|>analysis<|message|>Okay<|end|><|start|>assistant<|channel|>final<|message|>{TEXT}<|return|>"
    ),
    "harmony, three channels": (
        "<|start|>assistant<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>b<|end|>"
        f"<|start|>assistant<|channel|>final <|constrain|>json<|message|>{TEXT}"
    ),
    "harmony, begun by the prompt": f"Okay<|end|><|start|>assistant<|channel|>final<|message|>{TEXT}",
    "harmony without its tokens": f"analysisWe need to.assistantfinal{TEXT}",
    "two blocks": f"<think>a</think>\n<think>b</think>{TEXT}",
    "nested": f"<think>a<think>\nb</think>c</think>{TEXT}",
    "opened twice": f"<think>\n<think>\na</think>\n{TEXT}",
    "it talks of the mark": f'<think>they wrote "</think>" and `<think>` here\n</think>\n{TEXT}',
    "a fence is left open": f"I try ```\ncode\n</think>\n{TEXT}",
    "the mark is in code": f"<think>```\nx\n</think>\n```\n</think>\n{TEXT}",
    "capitals": f"<THINK>a</THINK>{TEXT}",
}
TURNS = {
    "chatml": f"{TEXT}<|im_end|>",
    "llama 2": f" {TEXT} </s>",
    "llama 3": f"<|start_header_id|>assistant<|end_header_id|>\n\n{TEXT}<|eot_id|>",
    "llama 3 without its tokens": f"assistant\n\n{TEXT}",
    "gemma": f"<start_of_turn>model\n{TEXT}<end_of_turn>\n",
    "two at the end": f"{TEXT}<|im_end|>\n<|endoftext|>",
    "at both ends": f"<|im_start|>assistant\n{TEXT}<|im_end|>",
    "mistral": f"<s> {TEXT} [/INST] ",
    "deepseek": f"{TEXT}<｜end▁of▁sentence｜>",
    "the user's turn follows": f"{TEXT}<|im_end|>\n<|im_start|>user\nNext?<|im_end|>\n<|im_start|>assistant\nmore",
    "another text follows": f"{TEXT}<|endoftext|>Human: something else",
    "a turn begins without an end": f"{TEXT}\n<start_of_turn>user\nfoo",
}
TALK = [
    "The `<think>` tag and the `</think>` tag.",
    "Write <think> before it and </think> after it.",
    "It writes <think>reasoning</think> before it answers.",
    "The pair (<think>, </think>) is a block.",
    "Use:\n```\n<think>\nreason\n</think>\nanswer<|im_end|>\n```\nDone.",
    "<entry>\n<thought>a\n</thought>\n<mood>b</mood>\n</entry>",
    "print('\\n</think>')",
    'GPT-2 separates texts with "<|endoftext|>" in training.',
    "GPT-2 puts <|endoftext|> between documents.",
    "x = '<|im_end|>'; y = s.replace(\"foo<|im_end|>\", '')",
    "<p>was <s>10</s> now 5</p>\n<s>x</s>",
    "Llama 2 puts [INST] and [/INST] around it, with </s> after the answer.",
    "a[i] < b and c > d",
    "analysis of data",
    "assistant: hello",
]


@pytest.mark.parametrize("name", THOUGHT)
def test_reasoning_in_any_form_comes_off(name):
    assert spoken(THOUGHT[name]) == Spoken(TEXT, True)


@pytest.mark.parametrize("name", TURNS)
def test_tokens_of_turns_and_turns_of_others_come_off(name):
    assert spoken(TURNS[name]) == Spoken(TEXT)


@pytest.mark.parametrize("text", TALK)
def test_a_text_that_talks_of_marks_stays_as_it_is(text):
    assert spoken(text) == Spoken(text)


@pytest.mark.parametrize(
    "reply",
    [
        "<think>\nI weigh it",
        "[THINK]I weigh it",
        "Okay.\n<think>\nI weigh",
        "<|channel|>analysis<|message|>hm",
        "analysisWe",
    ],
)
def test_of_reasoning_without_an_end_nothing_is_told(reply):
    assert spoken(reply) == Spoken(None, True)


@pytest.mark.parametrize("reply", ["<think>a</think>", "an answer, or none\n</think>\n", "<think></think>\n<|im_end|>"])
def test_reasoning_alone_is_no_answer(reply):
    assert spoken(reply).text == ""


def test_a_block_between_paragraphs_goes_and_the_paragraphs_stay():
    assert spoken("One.\n<think>\nhm\n</think>\nTwo.") == Spoken("One.\n\nTwo.", True)


def test_no_real_text_is_altered(shared_data):
    def texts(value):
        if isinstance(value, str):
            yield value
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from texts(inner)

    files = (
        "recorded/alpaca_eval_recorded.jsonl",
        "real_small/qwen_run.jsonl",
        "alpaca/alpaca_zh_demo.json",
        "lima/lima.json",
    )
    read = {
        text
        for name in files
        for text in texts(
            json.loads(shared_data(name).read_text("utf-8"))
            if name.endswith(".json")
            else [json.loads(line) for line in shared_data(name).read_text("utf-8").splitlines()]
        )
    }
    assert len(read) > 8000
    assert sum("<" in text or "[" in text for text in read) > 200
    assert [text for text in read if spoken(text).text != text.strip()] == []


PIECES = st.sampled_from(
    [
        "<think>",
        "</think>",
        "[THINK]",
        "<|im_end|>",
        "</s>",
        "<s>",
        "```\n",
        "`",
        '"',
        "\n",
        " ",
        "[A]",
        "verdict: ",
        "so ",
        "A",
        "x.",
        "final ",
        "[",
        "]",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=14).map("".join))
def test_what_is_told_holds_no_mark_at_its_ends_and_telling_it_again_changes_nothing_of_a_plain_text(reply):
    text = spoken(reply).text
    if text is None:
        return
    assert text == text.strip()
    assert not text.startswith(("<think>", "</think>", "[THINK]"))
    assert not text.endswith(("<|im_end|>",))
    if not any(mark in text for mark in ("think", "THINK", "<", "[")):
        assert spoken(text).text == text


def steps(work):
    """Lines of Python that ``work`` runs through."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


LONG = [
    "<think>",
    "</think>",
    "<think> a </think> ",
    "\n</think>",
    "</s>",
    "a<|im_end|> b ",
    "so\n",
    "[A] x\n",
    "```\n",
    "\n\n",
    "the ",
    "[ ",
]


@pytest.mark.parametrize("piece", LONG)
def test_the_work_grows_no_faster_than_the_reply(piece):
    few, many = ("x" + piece * count + "x" for count in (400, 4000))
    for read in (spoken, parse_verdict):
        assert steps(lambda read=read: read(many)) <= 12 * steps(lambda read=read: read(few)) + 1000


def test_a_long_run_of_anything_is_read_at_once():
    """In a process of its own, for a pattern that is quadratic in these would hold this one up for an hour."""
    script = """
from star_pipeline.core.equations.verdicts import parse_verdict
for before in ("", "[", "so ", "A conclusion", "<think>"):
    for piece in (" ", "\\t", "[", "[ ", '"', "so ", ",", "conclusion:", "\\n", "`", "<", "<think>", " [A"):
        parse_verdict(before + piece * (100_000 // len(piece)) + "x")
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=180)
