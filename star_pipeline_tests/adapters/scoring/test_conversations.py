"""Eq. 4 on conversations: the token ids of each template, counted by hand, and histories that are never cut."""

import pytest

from star_pipeline.adapters.scoring.tokenizer import PassBuilder, load_tokenizer
from star_pipeline.core.errors import ModelError
from star_pipeline.core.ports import ScoringSample
from star_pipeline.core.records import Message
from star_pipeline_tests.tiny_models import save_gpt_neox

HISTORY = (Message("user", "one?"), Message("assistant", "1"))
SAMPLE = ScoringSample("S!", HISTORY, "two?", "2.")
GREETED = ScoringSample("S!", (Message("assistant", "Hi"), *HISTORY), "two?", "2.")
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
    "{% endif %}{% endfor %}"
)
TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<go>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A vocabulary without merges: <|endoftext|> is 0, then comes every byte for itself."""
    return save_gpt_neox(tmp_path_factory.mktemp("m"), ["zz"], seed=0, hidden=32, layers=1, vocabulary=257)


@pytest.fixture
def passes(folder):
    """Of a sample under a template: the ids of [start, prompt, response] and of [start, response]."""
    tokenizer = load_tokenizer(str(folder))

    def made(template, sample=SAMPLE, chat_template=None):
        tokenizer.tokenizer.chat_template = chat_template
        maker = PassBuilder(tokenizer, template, 1000)
        [fit] = maker.fit([sample])
        assert (fit.status, fit.kept_chars) == ("ok", len(sample.response))
        [(given, alone)] = maker.passes([sample], [fit.kept_chars])
        assert given.scored == alone.scored == len(sample.response)
        return list(given.tokens), list(alone.tokens)

    yield made
    tokenizer.tokenizer.chat_template = None


def ids(text):
    """Byte-level BPE orders its alphabet by the characters that stand for bytes: 94 printable ones from '!' on come first;
    the 34 bytes from 0 to 32 that cannot be printed follow after 188 printable ones."""
    return [189 + ord(c) if ord(c) <= 32 else ord(c) - 32 for c in text]


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("plain", "S!\none?\n1\ntwo?\n"),
        ("alpaca", "S!\n\n### Instruction:\none?\n\n### Response:\n1\n\n### Instruction:\ntwo?\n\n### Response:"),
        ("chat", "<system>S!<user>one?<assistant>1<user>two?<go>"),
    ],
)
def test_the_answer_is_scored_given_everything_before_it(passes, template, prompt):
    given, alone = passes(template, chat_template=TURNS)
    assert given == [0, *ids(prompt), *ids("2.")]
    assert alone == [0, *ids("2.")]


def test_without_a_system_role_it_leads_the_first_question_not_the_greeting(passes):
    given, _ = passes("chat", GREETED, NO_SYSTEM + TURNS)
    assert given == [0, *ids("<assistant>Hi<user>S!\n\none?<assistant>1<user>two?<go>2.")]


def test_a_template_that_refuses_one_conversation_gives_it_a_status_and_one_that_refuses_all_is_an_error(folder):
    tokenizer = load_tokenizer(str(folder))
    maker = PassBuilder(tokenizer, "chat", 1000)
    try:
        tokenizer.tokenizer.chat_template = NO_SYSTEM + ALTERNATING + TURNS
        assert [fit.status for fit in maker.fit([SAMPLE, GREETED])] == ["ok", "prompt_refused"]
        tokenizer.tokenizer.chat_template = "{{ raise_exception('never') }}"
        with pytest.raises(ModelError, match=r"refuses a user's message \(never\); use alpaca or plain"):
            PassBuilder(tokenizer, "chat", 1000).fit([SAMPLE])
    finally:
        tokenizer.tokenizer.chat_template = None


def test_a_history_is_there_whole_or_the_sample_is_not_scored(folder):
    tokenizer = load_tokenizer(str(folder))
    prompt = ids("S!\none?\n1\ntwo?\n")
    for limit in range(8, len(prompt) + 6):
        maker = PassBuilder(tokenizer, "plain", limit)
        [fit] = maker.fit([SAMPLE])
        room = limit - 1 - len(prompt)
        assert (fit.status, fit.kept_chars) == (("ok", min(room, 2)) if room > 0 else ("prompt_too_long", 0))
        if fit.status == "ok":
            [(given, _)] = maker.passes([SAMPLE], [fit.kept_chars])
            assert list(given.tokens) == [0, *prompt, *ids("2."[: fit.kept_chars])]
