"""The offline agents and judge, asked through litellm as the pipeline asks them."""

import asyncio
import os
import re
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm
from litellm.exceptions import NotFoundError
from litellm.llms.custom_llm import CustomLLM

from star_pipeline.adapters.offline.judge import read_comparison
from star_pipeline.adapters.offline.knowledge import Example, Knowledge, parse_examples, shipped_examples
from star_pipeline.adapters.offline.provider import AGENTS, register, reply
from star_pipeline.core.equations.prompts import INSTRUCTION_PROMPTS, PromptLibrary

WRITERS = ("tutor", "essayist", "brief", "rambler")
PROMPTS = PromptLibrary({})
UNKNOWN = "How do I stop a cast-iron kettle from rusting in a humid boathouse?"
Chat = list[dict[str, str]]


@pytest.fixture(autouse=True)
def _registered() -> None:
    register()


def chat(template: str, **variables: object) -> Chat:
    known: dict[str, object] = {"system": None, "history": (), "draft": ""}
    rendered = PROMPTS.messages(template, {**known, **variables})
    return [{"role": message.role, "content": message.content} for message in rendered]


def ask(agent: str, messages: Chat, **params: Any) -> Any:
    return asyncio.run(litellm.acompletion(model=f"offline/{agent}", messages=messages, **params))


def said(agent: str, messages: Chat, **params: Any) -> str:
    return str(ask(agent, messages, **params).choices[0].message.content)


def respond_to(instruction: str) -> Chat:
    return chat("respond", instruction=instruction)


def comparison(question: str, answer_a: str, answer_b: str) -> Chat:
    return chat("judge_answers", question=question, answer_a=answer_a, answer_b=answer_b)


def verdict(question: str, answer_a: str, answer_b: str) -> str:
    for seed in range(4):
        if stated := re.search(
            r"\n\[([ABC])\]\Z", reply("judge", comparison(question, answer_a, answer_b), {"seed": seed})
        ):
            return stated[1]
    raise AssertionError("no verdict in four tries")


def some_examples() -> list[Example]:
    return [example for example in shipped_examples() if not example.history and not example.system][::4]


def outcome(question: str, one: str, other: str) -> str:
    """Both orders, as the pipeline asks them: one, other, tie or reversal."""
    first, second = verdict(question, one, other), verdict(question, other, one)
    swapped = {"A": "B", "B": "A", "C": "C"}[second]
    if first == swapped:
        return {"A": "one", "B": "other", "C": "tie"}[first]
    return "reversal" if {first, swapped} == {"A", "B"} else "tie"


def test_registering_twice_leaves_one_entry_and_keeps_other_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    other: Any = {"provider": "someone-elses", "custom_handler": CustomLLM()}
    monkeypatch.setattr(litellm, "custom_provider_map", [other])
    register()
    register()
    assert [item["provider"] for item in litellm.custom_provider_map] == ["someone-elses", "offline"]


def test_importing_the_provider_does_not_import_litellm() -> None:
    code = "import sys, star_pipeline.adapters.offline.provider; print('litellm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_reply_comes_with_text_finish_reason_and_usage() -> None:
    response = ask("tutor", [{"role": "user", "content": "Why is the sky blue?"}])
    assert response.choices[0].message.content.strip()
    assert response.choices[0].finish_reason == "stop"
    assert response.usage.prompt_tokens == 6
    assert response.usage.completion_tokens > 10
    assert response.usage.total_tokens == response.usage.prompt_tokens + response.usage.completion_tokens


def test_the_synchronous_call_answers_the_same() -> None:
    messages = respond_to(UNKNOWN)
    response: Any = litellm.completion(model="offline/essayist", messages=messages)
    assert response.choices[0].message.content == said("essayist", messages)


def test_max_tokens_cuts_the_reply_and_says_so() -> None:
    whole, cut = said("tutor", respond_to(UNKNOWN)), ask("tutor", respond_to(UNKNOWN), max_tokens=7)
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage.completion_tokens == 7
    assert whole.startswith(cut.choices[0].message.content)


def test_an_unknown_agent_is_not_found_and_the_error_names_those_there_are() -> None:
    with pytest.raises(NotFoundError) as caught:
        ask("wizard", respond_to(UNKNOWN))
    assert all(f"offline/{agent}" in str(caught.value) for agent in AGENTS)


SAID = """
import hashlib
from star_pipeline.adapters.offline.knowledge import shipped_examples, shipped_knowledge, topic_words
from star_pipeline.adapters.offline.provider import AGENTS, reply
for number, example in enumerate(shipped_examples()):
    nearest = shipped_knowledge().nearest(topic_words(example.instruction, []))
    print(number, *(repr(match.overlap) for match in nearest))
    for agent in AGENTS:
        turns = [turn for pair in example.history for turn in zip(("user", "assistant"), pair)]
        messages = [dict(role=role, content=text) for role, text in [*turns, ("user", example.instruction)]]
        told = reply(agent, messages, {"seed": 3})
        print(number, agent, hashlib.sha256(told.encode()).hexdigest())
"""


def test_the_same_request_gets_the_same_reply_in_every_process() -> None:
    """Whatever order Python gives its sets there: it differs from process to process."""
    told = [
        subprocess.run(
            [sys.executable, "-c", SAID],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": number},
        ).stdout.splitlines()
        for number in ("1", "2", "3")
    ]
    assert len(set(told[0])) == len(shipped_examples()) * (len(AGENTS) + 1)
    assert told[0] == told[1] == told[2]


def test_another_seed_can_get_another_reply() -> None:
    assert len({said("tutor", respond_to(UNKNOWN), seed=seed) for seed in range(8)}) > 1


def test_the_agents_answer_differently_and_each_answers_different_questions_differently() -> None:
    questions = [example.instruction for example in some_examples()[:12]] + [UNKNOWN]
    texts = [said(agent, respond_to(question)) for agent in WRITERS for question in questions]
    assert len(set(texts)) == len(texts)


def test_the_tutor_gives_what_a_starter_seed_answers() -> None:
    example = some_examples()[0]
    told = set(said("tutor", respond_to(example.instruction)).split())
    wanted = set(example.response.split())
    assert len(told & wanted) > 0.6 * len(wanted)
    assert len(said("brief", respond_to(example.instruction))) < len(said("essayist", respond_to(example.instruction)))


def test_without_a_close_seed_the_tutor_stays_on_the_topic_and_admits_it() -> None:
    text = said("tutor", respond_to(UNKNOWN))
    assert "no worked answer" in text
    assert sum(word in text for word in ("kettle", "rusting", "humid", "boathouse", "cast")) >= 2


def test_a_follow_up_question_is_understood_from_the_turn_before_it() -> None:
    knowledge = Knowledge(
        [Example("And in winter?", "Once a month.", history=(("How often to water a cactus?", "Weekly."),))]
    )
    turns = [
        {"role": "user", "content": "How often should I water a cactus?"},
        {"role": "assistant", "content": "Every week or two."},
        {"role": "user", "content": "And in winter?"},
    ]
    assert "Once a month." in reply("brief", turns, {}, knowledge)
    assert "Once a month." not in reply("brief", turns[-1:], {}, Knowledge(()))


@pytest.mark.parametrize("template", INSTRUCTION_PROMPTS)
@pytest.mark.parametrize("agent", WRITERS)
def test_a_rewritten_instruction_is_new_and_keeps_what_the_instruction_supplies(agent: str, template: str) -> None:
    instruction = "Sort these by price.\nname,price\npear,3\nfig,7"
    new = said(agent, chat(template, instruction=instruction))
    assert new != instruction
    assert "name,price\npear,3\nfig,7" in new
    assert "<instruction>" not in new


def test_instruction_agents_differ_and_the_tutor_asks_for_steps_where_reasoning_is_wanted() -> None:
    rewritten = {agent: said(agent, chat("reason", instruction=UNKNOWN)) for agent in WRITERS}
    assert len(set(rewritten.values())) == len(WRITERS)
    assert "step" in rewritten["tutor"]
    assert rewritten["tutor"].startswith(UNKNOWN)
    assert not rewritten["rambler"].startswith(UNKNOWN)


def test_a_conversation_shown_to_an_instruction_agent_is_not_taken_for_the_instruction() -> None:
    history = [
        {"role": "user", "content": "Say <instruction>\nnothing\n</instruction>"},
        {"role": "assistant", "content": "Done."},
    ]
    new = said("tutor", chat("constrain", instruction=UNKNOWN, history=history, system="Be kind."))
    assert new.startswith(UNKNOWN)


@pytest.mark.parametrize("agent", WRITERS)
def test_refining_changes_the_draft_and_only_the_better_agents_keep_it(agent: str) -> None:
    draft = "Dry it at once. Oil it thinly while it is warm. Store it with a bag of rice. Look at it every week."
    text = said(agent, chat("refine", instruction=UNKNOWN, draft=draft))
    assert text != draft
    assert ("Store it with a bag of rice." in text) == (agent in ("tutor", "essayist"))


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "?",
        "Why",
        "天空为什么是蓝色的？",
        "لماذا السماء زرقاء؟",
        "ทำไมท้องฟ้าถึงเป็นสีฟ้า",
        "{0} {topics} %s",
        "\ud800",
        "🦉" * 9,
    ],
)
def test_any_text_gets_a_reply_that_is_no_echo(agent: str, text: str) -> None:
    for messages in (respond_to(text), chat("rewrite", instruction=text), chat("refine", instruction=text, draft=text)):
        answer = reply(agent, messages, {})
        assert answer.strip()
        assert answer.strip() != text.strip()


def test_a_very_long_input_is_answered() -> None:
    text = "Summarise the report. " + "The turbine of the third pumping station was replaced in spring. " * 480
    assert len(text) > 30_000
    text_back = said("tutor", respond_to(text))
    assert "turbine" in text_back
    assert len(text_back) < 3_000


def test_a_very_long_word_is_not_repeated_whole() -> None:
    assert all(len(said(agent, respond_to("x" * 30_000))) < 3_000 for agent in WRITERS)


def test_the_judge_sees_the_documented_order_of_quality() -> None:
    outcomes: Counter[str] = Counter()
    for example in some_examples():
        texts = [reply(agent, respond_to(example.instruction), {}) for agent in WRITERS]
        for better, worse in ((0, 1), (1, 2), (2, 3), (0, 2), (0, 3), (1, 3)):
            outcomes[outcome(example.instruction, texts[better], texts[worse])] += 1
    assert outcomes["one"] > 0.8 * outcomes.total()


def test_the_tutor_sometimes_beats_the_seeds_own_answer_and_sometimes_does_not() -> None:
    outcomes = Counter(
        outcome(example.instruction, reply("tutor", respond_to(example.instruction), {}), example.response)
        for example in some_examples()
    )
    assert set(outcomes) == {"one", "other", "tie", "reversal"}


def test_the_judge_ties_equal_answers_in_both_orders() -> None:
    assert outcome(UNKNOWN, "Dry and oil the kettle.", "Dry and oil the kettle.") == "tie"


def test_a_few_comparisons_turn_with_the_order() -> None:
    outcomes: Counter[str] = Counter()
    for example in some_examples():
        texts = [reply(agent, respond_to(example.instruction), {}) for agent in WRITERS[:3]]
        outcomes.update(outcome(example.instruction, text, example.response) for text in texts)
    assert 0.03 < outcomes["reversal"] / outcomes.total() < 0.2


def test_the_judge_replies_with_two_sentences_and_a_last_line_of_its_own() -> None:
    text = said("judge", comparison(UNKNOWN, "Dry the kettle, then oil it against rusting in humid air.", "No."))
    remarks, line = text.rsplit("\n", 1)
    assert line == "[A]"
    assert len(re.findall(r"\.(?:\s|$)", remarks)) == 2


def test_the_judge_forgets_its_verdict_now_and_then_and_states_it_when_asked_again() -> None:
    prompts = [comparison(f"{UNKNOWN} ({number})", "Oil it.", "Dry and oil the kettle.") for number in range(900)]
    silent = [messages for messages in prompts if not reply("judge", messages, {}).endswith("]")]
    assert 1 <= len(silent) <= 27
    assert any(reply("judge", messages, {"seed": 1}).endswith("]") for messages in silent)


def test_where_samples_are_compared_the_instruction_counts_too() -> None:
    answer = "Dry it, oil it, and keep it warm."
    vague = "Could you maybe say something about stuff like this, more or less, kind of?"
    messages = chat("judge_samples", question_a=vague, question_b=UNKNOWN, answer_a=answer, answer_b=answer)
    assert read_comparison(messages[-1]["content"]) is not None
    assert said("judge", messages, seed=2).endswith("[B]")


def test_a_broken_seed_file_is_refused_with_its_line() -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse_examples('{"instruction": "a", "output": "b"}\n{"instruction": "a"}\n')
