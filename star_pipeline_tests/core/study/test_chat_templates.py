"""The chat template that a tuned model is kept with says what IFD's template says, whatever stands in the conversation."""

from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from star_pipeline.core.equations.ifd_templates import prompt_messages, prompt_text
from star_pipeline.core.records import Message
from star_pipeline.core.study.chat_templates import chat_template

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
TURNS = st.lists(st.tuples(TEXTS, TEXTS), max_size=3)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["alpaca", "plain"]), st.sampled_from(["token", "newline"]), st.none() | TEXTS, TURNS, TEXTS, TEXTS,
    st.booleans(),
)  # fmt: skip
def test_it_renders_the_scored_prompt_and_marks_the_last_answer(template, start, system, turns, asked, answer, has_bos):
    history = tuple(
        Message(role, text) for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True)
    )
    messages = prompt_messages(system, history, asked)
    shown = {"chat_template": chat_template(template, start, has_bos), "bos_token": "<B>", "eos_token": "<E>"}

    def rendered(conversation, **how):
        texts, marks = render_jinja_template([conversation], **shown, **how)
        return texts[0], marks[0] if marks else []

    before = ("<B>" if has_bos else "<E>") + ("\n" if start == "newline" else "")
    prompt = before + prompt_text(template, system, history, asked)
    assert rendered(messages, add_generation_prompt=True)[0] == prompt
    answered = [*messages, {"role": "assistant", "content": answer}]
    whole, marks = rendered(answered, return_assistant_tokens_mask=True)
    assert whole == f"{prompt}{answer}<E>"
    assert marks == [(len(prompt), len(whole))]
