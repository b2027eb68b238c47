"""Eq. 4 under a model on a real HTTP server, against the same model in this process."""

import math
import shutil
import threading

import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.preflight import check_scoring_models, describe_served
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.adapters.scoring import open_scorer
from star_pipeline.adapters.scoring.local import LocalScorer
from star_pipeline.adapters.scoring.numerics import settle
from star_pipeline.adapters.scoring.served import ServedScorer
from star_pipeline.config.scoring import ScoringConfig, ServedModel
from star_pipeline.core.equations.ifd import score_samples
from star_pipeline.core.errors import ConfigError, ModelError
from star_pipeline.core.ports import ScoringSample
from star_pipeline.core.records import Message
from star_pipeline_tests.completions_server import completions_server, refusal
from star_pipeline_tests.llm_server import Reply, chat_server
from star_pipeline_tests.tiny_models import save_gpt_neox

TEXTS = [
    "Write a poem about the sea.",
    "def add(a, b):\n    return a + b\n```python\nprint(1)\n```",
    "今天天气很好。",
    "Ünïcödé émojis 🎉🎊",
] * 5
SAMPLES = [
    ScoringSample(None, (), "Write a poem", "The sea is wide and blue."),
    ScoringSample("Be brief.", (Message("user", "hi"), Message("assistant", "hello")), "And now?", "Now we go."),
    ScoringSample(None, (), "One", "x"),
    ScoringSample(None, (), "emoji", "🎉🎊 ünï 今天"),
    ScoringSample(None, (), "specials", "text <|endoftext|> more"),
    ScoringSample(None, (), "long", "word " * 400),
    ScoringSample(None, (), "empty", ""),
    ScoringSample(None, (), "very long prompt " * 200, "answer"),
    ScoringSample(None, (), "spaces", "   "),
]
DIALECTS = pytest.mark.parametrize("dialect", ["vllm", "echo"])
FLOAT32 = settle("float32", "cpu", None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_gpt_neox(tmp_path_factory.mktemp("m"), TEXTS, seed=3, hidden=32, layers=2, context=256)


def served(url, folder, **settings):
    return ServedModel(model="m", api_base=url, tokenizer=str(folder), **settings)


class Naps:
    """A sleep that takes no time, and remembers how long it should have been."""

    def __init__(self):
        self.seconds = []

    async def __call__(self, seconds):
        self.seconds.append(seconds)


def scorer(server, folder, template="plain", max_length=128, sleep=None, start="token", **settings):
    model = served(server.url, folder, **settings)
    return ServedScorer(model, template, max_length, sleep=sleep or Naps(), start=start)


def local(folder, template="plain", max_length=128, start="token"):
    return LocalScorer(str(folder), FLOAT32, template, max_length, start=start)


def same(found, expected):
    assert [row.status for row in found] == [row.status for row in expected]
    assert [row.truncated for row in found] == [row.truncated for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert row.n_tokens_small == other.n_tokens_small
        for name in ("nll_given_small", "nll_alone_small", "ifd_small") if row.status == "ok" else ():
            assert getattr(row, name) == pytest.approx(getattr(other, name), rel=1e-6)


def failing(replies):
    """Answers the first requests after the one that finds the dialect with ``replies``, and leaves the others alone."""
    left, guard = [None, *replies], threading.Lock()

    def first(asked):
        with guard:
            return left.pop(0) if left else None

    return first


@DIALECTS
def test_values_equal_the_same_model_in_this_process(folder, dialect):
    with completions_server(folder, dialect) as server:
        found = score_samples(SAMPLES, lambda: scorer(server, folder), lambda: scorer(server, folder))
    same(found, score_samples(SAMPLES, lambda: local(folder), lambda: local(folder)))
    assert [row.status for row in found] == ["ok"] * 6 + ["empty_response", "prompt_too_long", "ok"]
    assert [row.truncated for row in found] == [False] * 5 + [True] + [False] * 3


@pytest.mark.parametrize("start", ["skip_first", "newline"])
def test_another_start_gives_the_same_values_on_a_server(folder, start):
    with completions_server(folder, "vllm") as server:
        found = score_samples(SAMPLES, *[lambda: scorer(server, folder, start=start)] * 2)
    same(found, score_samples(SAMPLES, *[lambda: local(folder, start=start)] * 2))
    assert [row.status for row in found][2] == ("too_short" if start == "skip_first" else "ok")


def test_each_model_is_asked_by_its_own_template(folder, tmp_path):
    tuned = with_chat_template(folder, tmp_path / "tuned")
    with completions_server(tuned, "vllm") as server:
        chat = {"model": "m", "api_base": server.url, "tokenizer": str(tuned), "template": "chat"}
        scoring = ScoringConfig(small=str(folder), large=chat, template="plain", dtype="float32", device="cpu")
        lake = Lake.at(tmp_path / "lake")
        small, large = (open_scorer(model, scoring, lake, SilentProgress()) for model in scoring.models)
        rows = score_samples(SAMPLES[:3], lambda: small, lambda: large)
    same(rows, score_samples(SAMPLES[:3], lambda: local(folder), lambda: local(folder)))
    own = score_samples(SAMPLES[:3], *[lambda: local(tuned, "chat")] * 2)
    assert [row.ifd_large for row in rows] == pytest.approx([row.ifd_small for row in own], rel=1e-6)
    here = ScoringConfig(small=str(folder), large={"model": str(tuned), "template": "chat"}, template="plain")
    large = open_scorer(here.large, here, lake, SilentProgress())
    again = score_samples(SAMPLES[:3], lambda: large, lambda: large)
    assert [row.ifd_small for row in again] == pytest.approx([row.ifd_small for row in own], rel=1e-6)


def with_chat_template(folder, target):
    import transformers

    shutil.copytree(folder, target)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    )
    tokenizer.save_pretrained(target)
    return target


def test_a_chat_template_gives_the_same_prompt(folder, tmp_path):
    with_chat_template(folder, tmp_path / "m")
    with completions_server(folder, "vllm") as server:
        there = scorer(server, tmp_path / "m", "chat")
        found = score_samples(SAMPLES[:3], lambda: there, lambda: there)
    here = local(tmp_path / "m", "chat")
    same(found, score_samples(SAMPLES[:3], lambda: here, lambda: here))


def test_a_pass_leaves_room_for_the_token_that_the_server_makes(folder):
    with completions_server(folder, "vllm") as server:
        [row] = score_samples([SAMPLES[5]], *[lambda: scorer(server, folder, max_length=100_000)] * 2)
        assert max(len(asked["prompt"]) for asked in server.requests) == 255
    assert (row.status, row.truncated) == ("ok", True)


@DIALECTS
def test_nothing_is_asked_twice_and_the_dialect_is_found_once(folder, dialect):
    twice = [*SAMPLES[:4], ScoringSample(None, (), "another prompt", SAMPLES[0].response), *SAMPLES[:4]]
    with completions_server(folder, dialect) as server:
        there = scorer(server, folder)
        there.losses(twice, [len(sample.response) for sample in twice])
        one_trial = dialect == "echo"
        asked = [tuple(asked["prompt"]) for asked in server.requests]
        assert len(asked) == len(set(asked)) + one_trial == 4 + 5 + one_trial
        assert all(asked["path"] == "/v1/completions" for asked in server.requests)
        there.losses(SAMPLES[8:], [3])
        assert len(server.requests) == len(asked) + 2


def test_as_many_requests_at_once_as_allowed_and_no_more(folder):
    together = threading.Barrier(3, timeout=60)
    answered = threading.Event()

    def first(asked):
        if not answered.is_set():
            answered.set()
        elif len(server.requests) <= 4:
            together.wait()

    with completions_server(folder, "vllm", first=first) as server:
        there = scorer(server, folder, max_concurrency=3)
        there.losses(SAMPLES[:5], [len(sample.response) for sample in SAMPLES[:5]])
        assert not together.broken
        assert server.most_at_once == 3


def test_what_passes_is_tried_again(folder):
    naps = Naps()
    replies = [
        refusal(429, "slow down"),
        refusal(500, "a worker died"),
        Reply(breaks="reset"),
        Reply(breaks="half"),
        Reply(body=b"<html>starting</html>"),
        refusal(503, "loading"),
    ]
    chosen = SAMPLES[:5]
    kept = [len(sample.response) for sample in chosen]
    with completions_server(folder, "vllm", first=failing(replies)) as server:
        found = scorer(server, folder, sleep=naps, max_tries=8).losses(chosen, kept)
        assert len(server.requests) == 10 + len(replies)
    assert len(naps.seconds) == len(replies)
    for loss, other in zip(found, local(folder).losses(chosen, kept), strict=True):
        assert (loss.nll_given, loss.nll_alone) == pytest.approx((other.nll_given, other.nll_alone), rel=1e-6)


def test_a_servers_wish_for_time_is_granted(folder):
    naps = Naps()
    replies = [refusal(429, "slow down", **{"Retry-After": wish}) for wish in ("7", "Wed, 21 Oct 2015 07:28:00 GMT")]
    with completions_server(folder, "vllm", first=failing(replies)) as server:
        scorer(server, folder, sleep=naps, max_concurrency=1).losses(SAMPLES[:1], [5])
    wished, past = naps.seconds
    assert wished == 7.0
    assert 0 <= past <= 2


def test_an_answer_that_takes_too_long_is_asked_again(folder):
    with completions_server(folder, "vllm", first=failing([Reply(delay_s=30)])) as server:
        [loss] = scorer(server, folder, timeout_s=3).losses(SAMPLES[:1], [5])
    assert math.isfinite(loss.nll_given)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (refusal(401, "bad key s3cret-key"), ["rejects the key", "[key]", "put a valid one into STAR_TEST_KEY"]),
        (refusal(403, "not yours"), ["rejects the key", "not yours"]),
        (refusal(404, "The model `m` does not exist."), ["does not exist", "api_base", "/v1"]),
        (refusal(400, "out of vocabulary"), ["refuses the request", "out of vocabulary"]),
        (
            refusal(400, "This model's maximum context length is 64 tokens."),
            ["too long for the server", "scoring.max_length", "--max-model-len"],
        ),
        (Reply(status=307, body=b"", headers={"Location": "http://127.0.0.1:9/"}), ["HTTP 307"]),
        (Reply(body=b'{"choices": []}'), ["cannot be read"]),
        (Reply(body=b'{"choices": [{"text": "hi"}]}'), ["an earlier one had them"]),
    ],
)
def test_what_does_not_pass_is_said_in_one_line(folder, monkeypatch, reply, words):
    monkeypatch.setenv("STAR_TEST_KEY", "s3cret-key")
    with completions_server(folder, "vllm", first=failing([reply])) as server:
        there = scorer(server, folder, api_key_env="STAR_TEST_KEY", max_concurrency=1)
        with pytest.raises(ModelError) as error:
            there.losses(SAMPLES[:1], [5])
        assert len(server.requests) == 2
        assert {asked["authorization"] for asked in server.requests} == {"Bearer s3cret-key"}
        assert f"m@{server.url}" in str(error.value)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)
    assert "s3cret" not in str(error.value)


def test_it_gives_up_after_max_tries(folder):
    with completions_server(folder, "vllm", first=lambda asked: refusal(503, "loading")) as server:
        with pytest.raises(ModelError, match="HTTP 503: loading, 3 times"):
            scorer(server, folder, max_tries=3).losses(SAMPLES[:1], [5])
        assert len(server.requests) == 3
    with pytest.raises(ModelError, match="nobody answers; start the server"):
        scorer(server, folder, max_tries=2).losses(SAMPLES[:1], [5])


@pytest.mark.parametrize(
    ("dialect", "taken"),
    [
        ("vllm", lambda ids: [0, *ids]),
        ("echo", lambda ids: [0, *ids]),
        ("vllm", lambda ids: ids[1:]),
        ("echo", lambda ids: ids[1:]),
        ("vllm", lambda ids: [ids[0], *(token ^ 1 for token in ids[1:])]),
    ],
)
def test_a_server_that_takes_other_tokens_is_refused(folder, dialect, taken):
    with (
        completions_server(folder, dialect, taken=taken) as server,
        pytest.raises(ModelError, match="does not take prompts as they are"),
    ):
        scorer(server, folder).losses(SAMPLES[:1], [5])


def test_an_echo_of_another_length_is_refused_where_no_usage_is_told(folder):
    import json

    def echo(length, first=None):
        entries = [first, *[-1.0] * (length - 1)]
        return Reply(body=json.dumps({"choices": [{"logprobs": {"token_logprobs": entries}}]}).encode())

    def answer(change, first=None):
        return lambda asked: (
            echo(len(asked["prompt"]) + change, first) if "echo" in asked else Reply(body=b'{"choices": [{}]}')
        )

    for change, fine in ((0, True), (1, True), (2, False), (-1, False)):
        with chat_server(answer(change)) as server:
            there = scorer(server, folder)
            if fine:
                assert there.losses(SAMPLES[:1], [5])[0].nll_given == 1.0
            else:
                with pytest.raises(ModelError, match="does not take prompts as they are"):
                    there.losses(SAMPLES[:1], [5])
    with chat_server(answer(0, -1.0)) as server, pytest.raises(ModelError, match="a number for the first"):
        scorer(server, folder).losses(SAMPLES[:1], [5])


def test_a_server_that_tells_no_log_probabilities_is_refused_with_its_own_words(folder):
    def like_llama_cpp(asked):
        return refusal(400, "Only no echo is supported") if asked.get("echo") else None

    with (
        completions_server(folder, "echo", first=like_llama_cpp) as server,
        pytest.raises(ModelError, match=r"does not tell .*answered without them; .*Only no echo is supported.*vLLM"),
    ):
        scorer(server, folder).losses(SAMPLES[:1], [5])


@pytest.mark.parametrize("nothing", [None, -9999.0, -math.inf, math.nan])
@DIALECTS
def test_a_token_without_probability_gives_a_status_and_no_number(folder, dialect, nothing):
    with completions_server(
        folder, dialect, values=lambda told: [*told[:-1], nothing] if len(told) > 3 else told
    ) as server:
        there = scorer(server, folder)
        rows = score_samples([SAMPLES[0], SAMPLES[2]], lambda: there, lambda: there)
    assert rows[0].status == "not_finite"
    assert rows[0].ifd_small is None


def test_both_forms_of_the_configuration_open_it(folder, tmp_path):
    with completions_server(folder, "vllm") as server:
        # the short form takes the model's name for the tokenizer's too, so the server must have it under the folder's name
        server.models = [{"id": str(folder)}]
        answer = server.script
        server.script = lambda asked: answer({**asked, "model": "m" if asked["model"] == str(folder) else "?"})
        scoring = ScoringConfig(
            small=f"{folder}@{server.url}/",
            large={"model": str(folder), "api_base": server.url, "max_concurrency": 2},
            template="plain",
            max_length=128,
        )
        assert str(scoring.small) == str(scoring.large) == f"{folder}@{server.url}"
        check_scoring_models(scoring)
        told = Told()
        small, large = (
            open_scorer(model, scoring, Lake.at(tmp_path), told) for model in (scoring.small, scoring.large)
        )
        assert isinstance(small, ServedScorer)
        rows = score_samples(SAMPLES, lambda: small, lambda: large)
        same(rows, score_samples(SAMPLES, lambda: small, lambda: local(folder)))
    assert [row.gap for row in rows if row.status == "ok"] == [0.0] * 7
    asked = {tuple(asked["prompt"]) for asked in server.requests[2:]}
    assert told.totals[:2] == [sum(map(len, asked))] * 2
    assert told.advanced == sum(told.totals)


class Told(SilentProgress):
    def __init__(self):
        self.totals, self.advanced = [], 0

    def stage(self, name, total):
        assert name.endswith("(tokens)")
        self.totals.append(total)

    def advance(self, count=1):
        self.advanced += count


def test_preflight_finds_what_would_stop_a_run(folder, monkeypatch):
    with completions_server(folder, "echo", limit=100) as server:
        model = served(server.url, folder)
        assert describe_served(model, 99).endswith("answers with echo with logprobs")
        with pytest.raises(ModelError, match=r"takes 100 tokens.*set scoring\.max_length to 99"):
            describe_served(model, 2048)
        assert describe_served(served(server.url, folder), 99)
        server.models = [{"id": "m"}]
        assert describe_served(model, 2048)
        monkeypatch.delenv("STAR_TEST_KEY", raising=False)
        with pytest.raises(ConfigError, match="STAR_TEST_KEY is not set"):
            describe_served(served(server.url, folder, api_key_env="STAR_TEST_KEY"), 99)
        with pytest.raises(ModelError, match="no such folder"):
            describe_served(ServedModel(model="m", api_base=server.url, tokenizer="/no/such"), 99)
        with pytest.raises(ModelError, match="`other` does not exist"):
            describe_served(ServedModel(model="other", api_base=server.url, tokenizer=str(folder)), 99)
    with pytest.raises(ModelError, match="nobody answers; start the server"):
        describe_served(model, 99)
