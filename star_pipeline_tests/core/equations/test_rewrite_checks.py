"""What a rewrite did to its instruction: lost inputs, answers, refusals and repeated prompts are told, good rewrites pass.

The cases are of the shapes in which small models (0.5B and 1.5B) failed.
"""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.equations.prompts import INSTRUCTION_PROMPTS, PromptLibrary, wording_of
from star_pipeline.core.equations.rewrite_checks import check_rewrite
from star_pipeline.core.equations.unwrapping import unwrapped_instruction

LIBRARY = PromptLibrary({})
ALPACA = Path(__file__).parents[4] / "shared" / "data" / "alpaca"

CITIES = "Rank these towns by the number of their bridges.\nGhent, Bruges, Leuven"
JSON = 'Turn this data into a table.\n{"boats": [\n  {"name": "Ida", "age": 20},\n  {"name": "Ole", "age": 27}\n]}'
CODE = "Say what this prints.\n```python\nfor x in range(3):\n    print(x * depth)\n```"
SENTENCE = "Name the feeling in this sentence.\nThe old ferry was late again, and nobody was surprised"
LOST = {
    "a list": (CITIES, "Rank these towns by the number of their bridges.", "its list 'Ghent, Bruges, Leuven'"),
    "a list, asked for": (CITIES, "Please provide the towns that are to be ranked.", "its list"),
    "code": (CODE, "Say what the code prints, line by line.", "its code"),
    "data": (JSON, "Please provide the data to turn into a table.", "its code"),
    "a text": (SENTENCE, "Name the feeling in the given sentence as one word.", "its text 'The old ferry was late"),
    "another text": (SENTENCE, "Name the feeling in this sentence.\nWe laughed all morning.", "its text"),
    "a name": (
        "Describe the person in one line.\nMarguerite",
        "Describe a person in one line, with two adjectives.",
        "'Marguerite'",
    ),
    "text behind a colon": (
        "Put this into the past tense: The heron waits by the weir.",
        "Put a sentence into the past tense.",
        "'The heron waits",
    ),
    "a table": (
        "Sum up each column.\n| oats | rye |\n|---|---|\n| 12 | 30 |",
        "Sum up each column of the table.",
        "its table",
    ),
    "numbers": ("Find the product of 9, 5 and 28.", "Find the product of three numbers.", "its numbers '9 5 28'"),
    "an address": (
        "Sum up https://harbour.example/tides for sailors.",
        "Sum up the page for sailors.",
        "its address 'https://harbour.example/tides'",
    ),
    "a quantity": ("Convert metres to yards.\n5 metres", "Convert metres to yards.", "its text '5 metres'"),
    "a quotation": (
        'Explain the proverb "still waters run deep" to a child.',
        "Explain the proverb to a child.",
        "its quotation 'still waters run deep'",
    ),
    "Chinese": ("把下面的句子翻译成过去时。\n那只白鹭站在河边等鱼。", "请把句子翻译成过去时，并说明理由。", "its text"),
}
ANSWERED = {
    "the input corrected": ("Correct the spelling: Teh boat is laet", "The boat is late."),
    "the input alone": (
        "Give an alternative to this sentence.\nThe heron was waiting",
        "The heron was waiting by the river.",
    ),
    "the input alone, cued": ("Make this sentence neutral.\nHe should bring his oars.", "He should bring his oars."),
    "advice": ('Find a slang term for "tired".', 'To find a slang term for "tired", one may use "beat" or "bushed".'),
    "a promise": (
        "Compare oats and rye.",
        "Certainly. Oats are a little richer in fat than rye, which has more fibre.",
    ),
    "the result announced": (
        'Find a tagline for the film "Low Tide".',
        'Given the film "Low Tide", here\'s a suitable tagline:\n\n"Low Tide: all that it leaves"',
    ),
}
REFUSED = (
    "I'm sorry, but I can't help with that.",
    "I can't help you with that.",
    "As an AI language model, I cannot write instructions about boats.",
    "Sorry, but there is no text provided.",
    "抱歉，我无法完成这个请求。",
    "Es tut mir leid, aber ich kann dabei nicht helfen.",
    "Je suis désolé, mais je ne peux pas vous aider.",
    "Lo siento, pero no puedo ayudarte con eso.",
    "申し訳ありませんが、そのご依頼にはお答えできません。",
)
GOOD = [
    (CITIES, "Rank these towns by how many bridges they have:\n\n1. **Ghent**\n2. **Bruges**\n3. **Leuven**"),
    (CITIES, "By bridge count, in what order do Leuven, Bruges and Ghent come?"),
    (CODE, CODE.replace("Say what", "Explain, step by step, what")),
    (JSON, 'Make an HTML table of these boats: {"boats": [{"name": "Ida", "age": 20}, {"name": "Ole", "age": 27}]}'),
    (SENTENCE, 'Which feeling speaks from "The old ferry was late again, and nobody was surprised"? Give one word.'),
    ("List three traits of an animal.\nOtter", "What are three distinctive traits of the otter?"),
    ("Convert metres to yards.\n5 metres", "Convert 5 metres to yards."),
    (
        "Greet a customer who bought something.\nThe customer bought a kettle.",
        "Write a greeting for a customer who just bought a kettle.",
    ),
    ("Write 5 riddles.", "Write five riddles about rivers, each with its answer."),
    ("Find the product of 9, 5 and 28.", "Find the product of 9, 5, and 28. Show each step."),
    ("Say sorry for a late parcel.", 'Write an apology for a parcel that came late; begin with "I\'m sorry".'),
    ("Is this polite? I'm sorry, I can't come.", "I'm sorry, I can't come: is that polite, and why?"),
    ("Poem about the sea", "A poem of four lines about the sea at night"),
    ("写一首关于河的诗。", "写一首关于河的四行诗，要押韵。"),
    ("Improve this line.\nfast boats go quick", "fast boats go quick\n\nMake this line better."),
    ("Why do herons stand on one leg?", "Could you explain why herons stand on one leg, and since when we know?"),
]


def check(given, made, prompt="rewrite", library=LIBRARY):
    variables = {"system": None, "history": (), "instruction": given}
    wording = wording_of(library.messages(prompt, variables), variables)
    return check_rewrite(given, made, prompt, wording, prompt not in library.overrides)


@pytest.mark.parametrize("case", LOST)
def test_a_lost_input_is_named(case):
    given, made, told = LOST[case]
    found = check(given, made)
    assert found.kind == "lost_input"
    assert told in found.reason


@pytest.mark.parametrize("case", ANSWERED)
def test_an_answer_is_no_instruction(case):
    assert check(*ANSWERED[case]).kind == "answered"


@pytest.mark.parametrize("made", REFUSED)
def test_a_refusal_is_no_instruction(made):
    assert check("Describe a boat.", made).kind == "refused"


@pytest.mark.parametrize(("given", "made"), GOOD)
def test_a_good_rewrite_passes(given, made):
    assert check(given, made).kind is None


@pytest.mark.parametrize(
    ("prompt", "made"),
    [
        ("deepen", "Describe a boat, with more depth or breadth on its central question."),
        ("rewrite", "No heading, no quotation marks, no remarks."),
        ("constrain", "Describe a boat. Add one or two realistic constraints or requirements."),
        ("concretise", "Describe a boat in a definite setting with the details that a good answer would need."),
        ("rewrite", "Resolve vague words and name the form the answer should take. Describe a boat."),
    ],
)
def test_the_prompt_repeated_is_told(prompt, made):
    assert check("Describe a boat.", made, prompt).kind == "repeats_prompt"


def test_words_of_a_prompt_of_ones_own_may_be_meant_for_the_instruction():
    library = PromptLibrary(
        {
            "mine": "{% block system %}Ask for numbered steps, one a line.{% endblock %}{% block user %}{{ instruction }}{% endblock %}"
        }
    )
    found = check("Describe a boat.", "Describe a boat in numbered steps, one a line.", "mine", library)
    assert (found.kind, found.warnings) == (None, ("template_words",))


def test_words_that_the_instruction_shares_with_the_prompt_are_its_own():
    given = "Explain the rule: no heading, no quotation marks, no remarks."
    assert check(given, "Explain why one would ask for no heading, no quotation marks, no remarks.").kind is None


def test_a_prompt_for_a_new_instruction_may_change_the_inputs_but_not_leave_a_hole():
    assert check(CITIES, "Rank these rivers by their length.\nLys, Dijle, Demer", "broaden").kind is None
    assert check(CITIES, "Rank the rivers in the following list by their length.", "broaden").kind == "lost_input"


def test_half_an_input_is_a_warning():
    given = "Sum up this text.\nThe ferry crosses at dawn, carries oats and rye, and returns with salt before the evening tide."
    made = "Sum up this text in one line.\nThe ferry crosses at dawn and carries oats."
    assert check(given, made).warnings == ("partial_input",)


def test_text_behind_the_whole_instruction_that_asks_for_nothing_is_a_warning():
    assert check(SENTENCE, f"{SENTENCE}.\n\nThe feeling in the sentence is resignation.").warnings == ("added_text",)
    assert check(SENTENCE, f"{SENTENCE}.\n\nGive your reasons in one sentence.").warnings == ()


def test_another_script_and_a_loop_are_told():
    assert (
        check("列出印度最常见的三种自然灾害。", "Which natural disasters are the most common ones in India?").kind
        == "other_script"
    )
    assert check("Describe a boat.", "Describe a boat. " + "Name its colour and its size. " * 12).kind == "loop"


@given(st.text(max_size=300), st.sampled_from(INSTRUCTION_PROMPTS))
def test_an_instruction_keeps_all_that_it_has_itself(text, prompt):
    assert check(text, text, prompt).kind is None


@pytest.mark.skipif(not ALPACA.is_dir(), reason="the real instructions are not here")
def test_thousands_of_real_instructions_and_their_plain_paraphrases_pass():
    seen = {}
    for path in sorted(ALPACA.glob("alpaca*.json")):
        for row in json.loads(path.read_text("utf-8"))[::15]:
            seen[row["instruction"].strip()] = row["input"].strip()
    assert len(seen) > 100
    for task, text in seen.items():
        given = f"{task}\n{text}".strip()
        forms = [given, f"Please {given[:1].lower()}{given[1:]}"]
        forms += [f"{text}\n\n{task}", f"{task.rstrip('.:')}: {text}", f"{task}\n- **{text}**"] if text else []
        for form in forms:
            made = unwrapped_instruction(form, given)
            assert made == form.strip()
            assert check(given, made).kind is None, (given, made)
