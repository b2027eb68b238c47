"""What models put around a text comes off; a text that holds such words, or is meant to begin with them, stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.equations.unwrapping import unwrapped_instruction, unwrapped_response

TEXT = "Describe a lighthouse in two sentences."
GIVEN = "Describe a lighthouse."


@pytest.mark.parametrize(
    "said",
    [
        f"<instruction>\n{TEXT}\n</instruction>",
        f"<instruction>\n{TEXT}",
        f"{TEXT}\n</instruction>",
        f"<rewritten_instruction>{TEXT}</rewritten_instruction>",
        f"<rewrite>\n{TEXT}\n</rewrite>",
        f"<Instruction>\n<instruction>\n{TEXT}\n</instruction>\n</Instruction>",
        f"<instruction>\n{GIVEN}\n</instruction>\n\nRewritten instruction:\n{TEXT}",
        f"<instruction>\n{GIVEN}\n\nRewritten instruction: {TEXT}",
        f"<instruction>\n{TEXT}\n</instruction>\n\nI hope this helps.",
        f"<system_prompt>\nBe kind.\n</system_prompt>\n\n<instruction>\n{TEXT}\n</instruction>",
        f"<conversation>\nuser: hi\nassistant: hello\n</conversation>\n\n{TEXT}",
        f"Rewritten instruction: {TEXT}",
        f"Rewritten instruction:\n\n{TEXT}",
        f"**Rewritten instruction:** {TEXT}",
        f"**Rewritten Instruction**:\n{TEXT}",
        f"### Rewritten instruction:\n{TEXT}",
        f"Here is the rewritten instruction:\n\n{TEXT}",
        f"Sure! Here's a more concrete version of the instruction:\n\n{TEXT}",
        f"Certainly. Here is the revised prompt with two constraints: {TEXT}",
        f'Here\'s the rewritten instruction:\n\n"{TEXT}"',
        f"Instruction: {TEXT}",
        f"改写后的指令：{TEXT}",
        f'"{TEXT}"',
        f"“{TEXT}”",
        f"```\n{TEXT}\n```",
        f"```text\n{TEXT}\n```",
        f"```markdown\n<instruction>\n{TEXT}\n</instruction>\n```",
    ],
)
def test_a_wrapper_around_an_instruction_comes_off(said):
    assert unwrapped_instruction(said, GIVEN) == TEXT


@pytest.mark.parametrize(
    ("said", "given"),
    [
        (TEXT, GIVEN),
        ("Explain what the tag <instruction> is for in this prompt: <instruction>Go</instruction>.", GIVEN),
        ("Write a heading such as 'Rewritten instruction:' for a manual.", GIVEN),
        ('"To be" or "not to be": which is stronger?', GIVEN),
        ('"Stay hungry" is a slogan. Explain it.', GIVEN),
        ('"Stay hungry," he said. Continue.', '"Stay hungry," he said.'),
        ('"A quotation as it was given."', '"A quotation as given."'),
        ("<instruction>Explain this tag.</instruction>", "<instruction>Explain.</instruction>"),
        ("Instruction: add salt. Say why.", "Instruction: add salt."),
        ("```python\nprint(1)\n```", GIVEN),
        ("```\nprint(1)\n```", "What does it print?\n```\nprint(1)\n```"),
        ("Run this:\n```\nls\n```", GIVEN),
        ("```\na\n```\nand\n```\nb\n```", GIVEN),
        ("New York: describe its harbour.", GIVEN),
        ("The task is easy: describe a lighthouse.", GIVEN),
    ],
)
def test_an_instruction_that_talks_of_such_things_stays(said, given):
    assert unwrapped_instruction(said, given) == said


@pytest.mark.parametrize(
    "said",
    [
        "Assistant: A tower.",
        "**Assistant:** A tower.",
        "### Response:\nA tower.",
        "<answer>A tower.</answer>",
        "<draft>\nA tower.\n</draft>",
    ],
)
def test_a_wrapper_around_a_response_comes_off(said):
    assert unwrapped_response(said, "What is it?") == "A tower."


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ('"Fresh bread, every day."', "Write a slogan."),
        ("```python\nprint(1)\n```", "Write it."),
        ("Answer: 42", "What is six times seven?"),
        ("Assistant: hello\nUser: hi", "Write a dialogue.\nUser: hi\nAssistant: hello"),
        ("<response>ok</response>", "Answer in <response> tags."),
        ("The word <answer> is a tag.", "What is it?"),
    ],
)
def test_a_response_that_is_meant_so_stays(said, asked):
    assert unwrapped_response(said, asked) == said


WRAPPERS = (
    lambda text: f"<instruction>\n{text}\n</instruction>",
    lambda text: f"Rewritten instruction:\n{text}",
    lambda text: f"```\n{text}\n```",
)


@given(
    st.text(st.characters(categories=["L", "N"]), min_size=1).map(lambda s: f"Say {s} now."),
    st.lists(st.sampled_from(WRAPPERS), unique=True),
)
def test_wrappers_in_one_another_come_off_and_nothing_else(text, wrappers):
    said = text
    for wrap in wrappers:
        said = wrap(said)
    assert unwrapped_instruction(said, "Say it.") == text
