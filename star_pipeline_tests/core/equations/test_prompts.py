"""Templates render to messages that no seed's text can break, and the user's own take their place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.equations.ifd_templates import prompt_text
from star_pipeline.core.equations.prompts import INSTRUCTION_PROMPTS, PromptLibrary
from star_pipeline.core.errors import ConfigError
from star_pipeline.core.records import Message

HISTORY = (Message("user", "earlier"), Message("assistant", "said"))


@pytest.mark.parametrize("name", INSTRUCTION_PROMPTS)
def test_every_instruction_prompt_shows_the_instruction_and_its_conversation(name):
    hostile = "{% raw %} {{ instruction }} {% block user %}"
    system, user = PromptLibrary({}).messages(name, {"system": "S!", "history": HISTORY, "instruction": hostile})
    assert (system.role, user.role) == ("system", "user")
    assert all(text in user.content for text in (hostile, "S!", "earlier", "said"))
    assert "{%" not in system.content


def test_instruction_prompts_differ():
    texts = {
        PromptLibrary({}).messages(name, {"system": None, "history": (), "instruction": "x"})
        for name in INSTRUCTION_PROMPTS
    }
    assert len(texts) == len(INSTRUCTION_PROMPTS)


def test_a_users_own_template_takes_the_place_and_changes_the_version():
    own = PromptLibrary(
        {"respond": "{% block system %}mine{% endblock %}{% block user %}{{ instruction }}!{% endblock %}"}
    )
    assert own.messages("respond", {"instruction": "x"})[1].content == "x!"
    assert own.version("respond") != PromptLibrary({}).version("respond")
    assert own.version("refine") == PromptLibrary({}).version("refine")


@pytest.mark.parametrize(
    "source",
    [
        "{{ missing }}",
        "{% block user %}",
        "no blocks",
        "{% block system %}{{ nope }}{% endblock %}{% block user %}{% endblock %}",
    ],
)
def test_a_broken_template_is_a_configuration_error_that_names_it(source):
    with pytest.raises(ConfigError, match="'mine'"):
        PromptLibrary({"mine": source}).messages("mine", {"instruction": "x"})


FRAME = "{{% block system %}}s{{% endblock %}}\n{{% block user %}}\n{}\n{{% endblock %}}"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{{ 1 // 0 }}", ["line 3", "ZeroDivisionError"]),
        ("one\n{{ instruction + 1 }}", ["line 4", "TypeError"]),
        ("{% if %}", ["line 3"]),
        ("{{ nothing }}", ["line 3", "'nothing' is undefined"]),
        ("{{ instruction | nowhere }}", ["line 3", "nowhere"]),
        ("{% include '../../config/load.py' %}", ["line 3", "no template"]),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", ["line 3", "RecursionError"]),
        ("{{ instruction.__class__.__mro__ }}", ["line 3", "unsafe"]),
        ("{{ 'x' * 10 ** 9 }}", ["line 3", "OverflowError"]),
        ("{{ 2 ** 9999999 }}", ["line 3", "OverflowError"]),
        ("{{ '%999999999d' % 1 }}", ["line 3", "OverflowError"]),
        ("{% for i in range(10 ** 9) %}x{% endfor %}", ["line 3", "Range too big"]),
        ("{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", ["longer than 20,000,000"]),
        ("{{ history.append(1) }}", ["line 3", "append"]),
    ],
)
def test_every_error_of_a_users_template_is_one_line_with_file_and_line_and_none_gets_out_of_the_sandbox(body, words):
    library = PromptLibrary({"mine": FRAME.format(body)}, {"mine": "my/mine.jinja"})
    with pytest.raises(ConfigError) as error:
        library.messages("mine", {"instruction": "x", "history": []})
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in ("'mine' (my/mine.jinja", *words)), str(error.value)


@given(st.text(max_size=30), st.sampled_from(["{}", "\n\n  {}\t\n", "Asked: {} !"]))
def test_a_templates_own_blanks_go_and_a_values_stay(value, form):
    library = PromptLibrary({"mine": FRAME.format(form.format("{{ instruction }}"))})
    assert library.messages("mine", {"instruction": value})[-1].content == form.strip().format(value)


def test_plain_scoring_prompt_is_system_history_and_instruction_each_followed_by_one_newline():
    assert prompt_text("plain", "S", HISTORY, "I") == "S\nearlier\nsaid\nI\n"
    assert prompt_text("plain", None, (), "I") == "I\n"


def test_alpaca_scoring_prompt_is_stanfords():
    assert prompt_text("alpaca", None, (), "Add 1 and 2") == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\nAdd 1 and 2\n\n### Response:"
    )
    assert prompt_text("alpaca", "S", HISTORY, "I") == (
        "S\n\n### Instruction:\nearlier\n\n### Response:\nsaid\n\n### Instruction:\nI\n\n### Response:"
    )
