"""Templates render to messages that no seed's text can break, and the user's own take their place."""

import pytest

from star_pipeline.core.errors import ConfigError
from star_pipeline.core.prompts import INSTRUCTION_PROMPTS, PromptLibrary
from star_pipeline.core.records import Message
from star_pipeline.core.score_templates import prompt_text

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
