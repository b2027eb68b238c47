"""LLM calls against a real HTTP server on loopback; what litellm would do differently, ``test_direct`` tells."""

import asyncio
import contextlib
import json
import threading
import time

import httpx
import pytest

from star_pipeline.adapters import event_loop
from star_pipeline.adapters.journal.sqlite.journal import SqliteJournal
from star_pipeline.adapters.llm.chat import AgentChat
from star_pipeline.adapters.llm.library import load_litellm
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.equations.replies import MASKED, read_reply
from star_pipeline.core.errors import AgentDown, BudgetReached, CallError, ConfigError
from star_pipeline.core.ports import ChatRequest
from star_pipeline.core.records import Message
from star_pipeline_tests.journals import read_spend
from star_pipeline_tests.llm_server import Reply, chat_server, completion


def agent(server, **changes):
    return AgentConfig(**{"model": "hosted_vllm/m", "api_base": server.url, "max_tries": 3, **changes})


def request(text="hello", **changes):
    return ChatRequest(
        **{"agent": "a", "messages": (Message("user", text),), "template": "t", "template_version": "v", **changes}
    )


class Asker:
    """Asks through a journal of its own, with a clock that only sleeping moves."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, config, *requests, budget=None, lake="lake", journal="journal"):
        waits = []

        async def sleep(seconds):
            waits.append(seconds)

        async def together():
            self._loop = asyncio.get_running_loop()
            chat = AgentChat(
                {"a": config}, SqliteJournal(self.folder / journal, lake), budget, sleep, lambda: sum(waits)
            )
            async with contextlib.aclosing(chat):
                return await asyncio.gather(*(chat.complete(r) for r in requests), return_exceptions=True)

        return asyncio.run(together()), waits

    def later(self, seconds):
        """For a server: by the clock of who asks so many seconds pass at once, however long they have waited until now."""
        loop, now = self._loop, self._loop.time
        loop.call_soon_threadsafe(setattr, loop, "time", lambda: now() + seconds)


@pytest.fixture
def ask(tmp_path):
    return Asker(tmp_path)


def test_a_reply_comes_back_with_tokens_cost_and_parameters_sent(ask):
    with chat_server(lambda asked: "fine words") as server:
        config = agent(
            server, params={"temperature": 0.3, "max_tokens": 9}, input_cost_per_token=1e-3, output_cost_per_token=1e-2
        )
        [reply], _ = ask(config, request("one two three", params={"temperature": 0.0}))
        assert (reply.text, reply.finish_reason, reply.prompt_tokens, reply.completion_tokens) == (
            "fine words",
            "stop",
            3,
            2,
        )
        assert reply.cost_usd == pytest.approx(3e-3 + 2e-2)
        sent = server.requests[0]
        assert (sent["temperature"], sent["max_tokens"], sent["model"]) == (0.0, 9, "m")
        assert "seed" not in sent


def test_a_re_ask_sends_its_number_as_seed(ask):
    with chat_server(lambda asked: "x") as server:
        ask(agent(server), request(sample=2))
        assert server.requests[0]["seed"] == 2


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_failures_are_tried_again_and_only_as_often_as_allowed(status, ask):
    with chat_server(lambda asked: Reply(status=status)) as server:
        [error], waits = ask(agent(server), request())
        assert isinstance(error, CallError)
        assert error.attempts == 3
        assert len(server.requests) == 3
        assert len(waits) == 2
    if status == 429:
        assert error.kind == "rate_limit"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, "authentication"), (403, "permission"), (404, "not_found"), (400, "bad_request"), (422, "bad_request")],
)
def test_permanent_failures_are_not_tried_again(status, kind, ask):
    replies = iter([Reply("fine"), Reply(status=status)])
    with chat_server(lambda asked: next(replies)) as server:
        _, error = ask(agent(server, max_concurrency=1), request("one"), request("two"))[0]
        assert (error.kind, error.attempts, len(server.requests)) == (kind, 1, 2)


def test_an_agent_that_rejects_the_key_and_never_answered_stops_the_run_at_once(ask):
    with chat_server(lambda asked: Reply(status=401)) as server:
        [error], _ = ask(agent(server), request())
        assert isinstance(error, AgentDown)
        assert all(words in str(error) for words in ("agent a", "authentication", "doctor"))


def test_an_agent_whose_model_or_server_is_not_there_stops_the_run_after_a_few_calls(ask):
    with chat_server(lambda asked: Reply(status=404)) as server:
        errors, _ = ask(agent(server, max_concurrency=1), *(request(f"q{n}") for n in range(4)))
        assert [type(error).__name__ for error in errors] == ["CallError", "CallError", "AgentDown", "AgentDown"]
        gone = agent(server, max_tries=2, max_concurrency=1)
    errors, waits = ask(gone, request("a"), request("b"))
    assert [type(error).__name__ for error in errors] == ["CallError", "AgentDown"]
    assert "nobody answers" in str(errors[0])
    assert len(waits) == 2  # a server may be starting: refused connections are tried again


def test_a_server_that_fails_is_not_dead(ask):
    with chat_server(lambda asked: Reply(status=500)) as server:
        errors, _ = ask(agent(server, max_tries=1), *(request(f"q{n}") for n in range(10)))
        assert {type(error).__name__ for error in errors} == {"CallError"}


def test_after_a_passing_failure_the_reply_tells_its_attempts(ask):
    replies = iter([Reply(status=500), Reply("at last")])
    with chat_server(lambda asked: next(replies)) as server:
        [reply], _ = ask(agent(server), request())
        assert (reply.text, reply.attempts) == ("at last", 2)


def test_retry_after_is_honoured(ask):
    replies = iter([Reply(status=429, headers={"Retry-After": "7"}), Reply("ok")])
    with chat_server(lambda asked: next(replies)) as server:
        _, waits = ask(agent(server), request())
        assert waits[0] >= 7


def test_broken_json_is_a_failure_with_its_reason(ask):
    with chat_server(lambda asked: Reply(body=b"{not json")) as server:
        [error], _ = ask(agent(server), request())
        assert isinstance(error, CallError)
        assert "hosted_vllm/m" in str(error)


def test_a_reply_without_choices_is_malformed(ask):
    with chat_server(
        lambda asked: Reply(body=b'{"id": "x", "choices": [], "model": "m", "object": "chat.completion"}')
    ) as server:
        [error], _ = ask(agent(server), request())
        assert isinstance(error, CallError)
        assert len(server.requests) == 3


def test_a_server_that_is_too_slow_is_a_timeout(ask):
    with chat_server(lambda asked: ask.later(61) or Reply("late", delay_s=60)) as server:
        [error], _ = ask(agent(server, timeout_s=60, max_tries=1), request())
        assert (error.kind, error.attempts) == ("timeout", 1)
        assert server.active == 1  # still at it


def test_no_more_requests_in_flight_than_the_agent_allows(ask):
    together = threading.Barrier(4, timeout=60)

    def slow(asked):
        together.wait()
        time.sleep(0.03)  # for one more than are allowed
        return "x"

    with chat_server(slow) as server:
        results, _ = ask(agent(server, max_concurrency=4), *(request(f"q{n}") for n in range(24)))
        assert all(reply.text == "x" for reply in results)
        assert server.most_at_once == 4


def test_requests_a_minute_are_spread(ask):
    with chat_server(lambda asked: "x") as server:
        began = time.monotonic()
        ask(agent(server, requests_per_minute=600), *(request(f"q{n}") for n in range(6)))
        assert time.monotonic() - began >= 0.45


def test_the_key_comes_from_the_environment_and_shows_nowhere_else(monkeypatch, ask):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    echo = b'{"error": {"message": "bad key sk-secret", "code": 400}}'
    with chat_server(lambda asked: Reply(status=400, body=echo)) as server:
        [error], _ = ask(agent(server, api_key_env="MY_KEY"), request())
        assert server.requests[0]["authorization"] == "Bearer sk-secret"
        assert "bad key [key]" in str(error)
        assert "sk-secret" not in str(error)


def test_a_missing_key_is_said_before_the_first_call(monkeypatch, ask):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for config in (
        AgentConfig(model="openai/gpt-4o-mini"),
        AgentConfig(model="hosted_vllm/m", api_key_env="STAR_NO_KEY"),
    ):
        with pytest.raises(ConfigError, match=r"agent a .* is not set in the environment"):
            ask(config)


def test_stage_after_stage_uses_the_same_sockets(tmp_path):
    """Each asset runs its own round of calls; none may leave connections behind."""
    import psutil

    def round_of_calls(config, number):
        async def together():
            async with contextlib.aclosing(
                AgentChat({"a": config}, SqliteJournal(tmp_path / str(number), "lake"))
            ) as chat:
                await asyncio.gather(*(chat.complete(request(f"q{n}")) for n in range(16)))

        event_loop.run(together())

    with chat_server(lambda asked: "x") as server:
        config = agent(server, max_concurrency=16)
        for number in range(2):
            round_of_calls(config, number)
        before = psutil.Process().num_fds()
        for number in range(2, 8):
            round_of_calls(config, number)
        until = time.monotonic() + 60
        while (
            psutil.Process().num_fds() > before + 16
        ):  # the server's own ends are closed by its threads, in their time
            assert time.monotonic() < until
            time.sleep(0.01)


def test_an_answered_request_is_never_sent_again_and_identical_ones_in_flight_are_sent_once(ask):
    with chat_server(lambda asked: Reply("fine", delay_s=0.05)) as server:
        config = agent(server, input_cost_per_token=1e-3)
        first, _ = ask(config, *[request(purpose=f"p{n}") for n in range(5)])
        again, _ = ask(config.model_copy(update={"max_concurrency": 2}), *[request(purpose=f"p{n}") for n in range(5)])
        assert len(server.requests) == 1
    assert [reply.booked for reply in first] == [reply.booked for reply in again] == [True] + [False] * 4
    assert {(reply.text, reply.cost_usd) for reply in first + again} == {("fine", 1e-3)}


def test_another_lake_that_shares_the_journal_pays_nothing(ask):
    with chat_server(lambda asked: "fine") as server:
        [mine], _ = ask(agent(server), request(purpose="p"), lake="mine")
        [other], _ = ask(agent(server), request(purpose="p"), lake="other")
        assert len(server.requests) == 1
    assert (mine.booked, other.booked, other.text) == (True, False, "fine")


def test_empty_and_truncated_replies_are_paid_and_kept_as_they_are(ask):
    replies = {"empty": Reply(""), "cut": Reply("half of it", finish_reason="length")}
    with chat_server(lambda asked: replies[asked["messages"][0]["content"]]) as server:
        for _ in range(2):
            (empty, cut), _ = ask(agent(server), request("empty"), request("cut"))
        assert len(server.requests) == 2
    assert (empty.text, cut.text, cut.finish_reason) == ("", "half of it", "length")


def test_a_request_that_failed_is_asked_again_by_the_next_run(ask):
    replies = iter([Reply(status=400), Reply("fine")])
    with chat_server(lambda asked: next(replies)) as server:
        [error], _ = ask(agent(server), request())
        [reply], _ = ask(agent(server), request())
    assert (error.kind, reply.text) == ("bad_request", "fine")


SAID = b'{"error": {"message": "%s", "code": "%s"}}'
FAILURES = {
    "reset": (Reply(breaks="reset"), "connection", True, True),
    "half a reply": (Reply(breaks="half"), "connection", True, True),
    "broken JSON": (Reply(body=b"{not json"), "malformed_reply", True, True),
    "a proxy's page": (Reply(body=b"<html>Bad gateway</html>"), "malformed_reply", True, True),
    "a list": (Reply(body=b"[]"), "malformed_reply", True, True),
    "no choices": (Reply(body=b'{"id": "x", "choices": []}'), "malformed_reply", True, True),
    "too late": (Reply("late", delay_s=60), "timeout", True, True),
    "408": (Reply(status=408), "timeout", True, True),
    "504": (Reply(status=504), "timeout", True, True),
    "429": (Reply(status=429), "rate_limit", True, False),
    "500": (Reply(status=500), "server_error", True, False),
    "502": (Reply(status=502), "server_error", True, False),
    "503": (Reply(status=503), "unavailable", True, False),
    "400": (Reply(status=400), "bad_request", False, False),
    "403": (Reply(status=403), "permission", False, False),
    "404": (Reply(status=404), "not_found", False, False),
    "422": (Reply(status=422), "bad_request", False, False),
    "no money": (Reply(status=429, body=SAID % (b"exceeded your current quota", b"insufficient_quota")), "quota", False, False),
    "too long": (
        Reply(status=400, body=SAID % (b"This model's maximum context length is 10 tokens", b"context_length_exceeded")),
        "context_too_long", False, True,
    ),
    "too long for vLLM": (
        Reply(status=400, body=SAID % (b"The decoder prompt (length 99) is longer than the maximum model length of 10.", b"400")),
        "context_too_long", False, True,
    ),
    "too long for llama.cpp": (
        Reply(status=400, body=SAID % (b"the request exceeds the available context size", b"exceed_context_size_error")),
        "context_too_long", False, True,
    ),
    "filtered": (
        Reply(status=400, body=SAID % (b"triggering the content management policy", b"content_filter")),
        "content_filter", False, True,
    ),
}  # fmt: skip  # read as a table


@pytest.mark.parametrize("provider", ["hosted_vllm", "openai"])
@pytest.mark.parametrize("case", FAILURES)
def test_every_failure_has_its_kind_its_tries_and_its_place_in_the_budget(case, provider, ask, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-for-loopback")
    said, kind, passing, maybe_billed = FAILURES[case]

    def script(asked):
        if asked["messages"][0]["content"] == "first":
            return "first"
        if said.delay_s:
            ask.later(61)
        return said

    with chat_server(script) as server:
        config = agent(
            server,
            model=f"{provider}/m",
            max_tries=2,
            max_concurrency=1,
            timeout_s=60,
            params={"max_tokens": 9},
            **PRICED,
        )
        (_, error), _ = ask(config, request("first"), request(), budget=1.0)
        assert (type(error), error.kind, error.attempts) == (CallError, kind, 2 if passing else 1)
        assert len(server.requests) == 1 + error.attempts
        assert f"{provider}/m" in str(error)
        assert "\n" not in str(error)
    [spend] = spent(ask)
    assert spend.reservations == (error.attempts if maybe_billed else 0)
    assert (spend.reserved_usd > 0) == maybe_billed


PRICED = {"input_cost_per_token": 1e-3, "output_cost_per_token": 1e-2}


def spent(ask, lake="lake"):
    return read_spend(ask.folder / "journal", lake)


def bill(server, replies):
    """What the server would charge: by its own count of the tokens of what it has answered."""
    done = [completion(asked, Reply(text))["usage"] for asked, text in zip(server.requests, replies, strict=False)]
    return sum(usage["prompt_tokens"] * 1e-3 + usage["completion_tokens"] * 1e-2 for usage in done)


def test_the_budget_is_never_exceeded_and_what_was_paid_is_not_paid_again(ask):
    with chat_server(lambda asked: "a b c d") as server:
        config = agent(server, max_concurrency=8, params={"max_tokens": 8}, **PRICED)
        questions = [request(f"q{n} of them") for n in range(40)]
        results, _ = ask(config, *questions, budget=1.0)
        paid = [reply for reply in results if not isinstance(reply, Exception)]
        stopped = [error for error in results if isinstance(error, BudgetReached)]
        assert len(paid) + len(stopped) == 40
        assert 0 < bill(server, ["a b c d"] * 99) <= 1.0
        assert sum(reply.cost_usd for reply in paid) == pytest.approx(bill(server, ["a b c d"] * 99))
        # what is left is less than one worst case: the budget is used, not only kept
        assert bill(server, ["a b c d"] * 99) > 1.0 - (0.3 + 8e-2) - 0.05
        for words in ("of 1 USD spent", "need a budget of", "raise budget.usd and run again"):
            assert words in str(stopped[0])
        before = len(server.requests)
        results, _ = ask(config, *questions, budget=10.0)
        assert len(server.requests) == 40
        assert before == len(paid)
        assert sum(reply.cost_usd for reply in results) == pytest.approx(sum(row.cost_usd for row in spent(ask)))


def handler():
    """The class of litellm's HTTP client; imported after ``load_litellm``, since it would go to the network."""
    load_litellm()
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    return AsyncHTTPHandler


def test_a_litellm_that_might_send_twice_is_refused_before_anything_is_sent(ask, monkeypatch):
    known = handler()
    for name in ("single_connection_request", "single_connection_post_request"):
        monkeypatch.delattr(known, name, raising=False)
    with chat_server(lambda asked: "fine") as server:
        with pytest.raises(ConfigError, match=r"litellm [\d.]+ has no .*single_connection_request.*install"):
            ask(agent(server, client="litellm"), request())
        assert not server.requests


def test_litellm_itself_never_sends_a_request_once_more():
    async def post_over_a_lost_connection(url):
        def lost(request):
            raise httpx.ConnectError("lost")

        client = handler()()
        client.client = httpx.AsyncClient(transport=httpx.MockTransport(lost))
        await client.post(url, json={"model": "m", "messages": [{"role": "user", "content": "hello"}]})

    with chat_server(lambda asked: "fine") as server:
        with pytest.raises(httpx.ConnectError, match="lost"):
            asyncio.run(post_over_a_lost_connection(f"{server.url}/chat/completions"))
        assert not server.requests  # where litellm's own second try, with a client of its own, would have come to


def test_a_try_whose_fate_is_unknown_counts_in_full_also_when_another_is_answered(ask):
    replies = iter([Reply(breaks="reset"), Reply(status=500), Reply("fine")])
    with chat_server(lambda asked: next(replies)) as server:
        [reply], _ = ask(agent(server, params={"max_tokens": 10}, **PRICED), request("one two"), budget=1.0)
    assert reply.attempts == 3
    [spend] = spent(ask)
    assert spend.cost_usd == pytest.approx(2e-3 + 1e-2)
    assert spend.reservations == 1
    assert spend.reserved_usd == pytest.approx(10 * 1e-2 + (7 + 256 + 16) * 1e-3, rel=1e-6)


def test_a_reply_without_usage_costs_the_most_that_it_can_have_cost(ask):
    whole = completion({"model": "m", "messages": []}, Reply("hi"))
    body = json.dumps({name: value for name, value in whole.items() if name != "usage"}).encode()
    with chat_server(lambda asked: Reply(body=body)) as server:
        [reply], _ = ask(agent(server, params={"max_tokens": 10}, **PRICED), request("one two"), budget=1.0)
    assert reply.cost_usd == pytest.approx(10 * 1e-2 + (7 + 256 + 16) * 1e-3)


def test_a_budget_needs_a_price_and_a_limit_of_tokens_before_the_first_call(ask):
    with chat_server(lambda asked: "x") as server:
        with pytest.raises(
            ConfigError, match=r"agent a .* has no price, and budget\.usd is set; give input_cost_per_token"
        ):
            ask(agent(server, params={"max_tokens": 9}), request(), budget=1.0)
        with pytest.raises(ConfigError, match=r"agent a .* has no params\.max_tokens"):
            ask(agent(server, **PRICED), request(), budget=1.0)
        ask(agent(server, params={"max_completion_tokens": 9}, **PRICED), request(), budget=1.0)
        assert len(server.requests) == 1


def test_an_agent_that_dies_in_the_middle_stops_the_run_and_what_was_answered_stays(ask):
    alive = [True]

    def script(asked):
        return "fine" if alive[0] else Reply(status=503)

    with chat_server(script) as server:
        config = agent(server, max_concurrency=4, max_tries=5)
        ask(config, *(request(f"q{n}") for n in range(10)))
        alive[0] = False
        results, _ = ask(config, *(request(f"q{n}") for n in range(200)))
        assert all(reply.text == "fine" for reply in results[:10])
        assert {type(error) for error in results[10:]} == {AgentDown}
        assert len(server.requests) < 10 + 40
        alive[0] = True
        results, _ = ask(config, *(request(f"q{n}") for n in range(200)))
        assert {reply.text for reply in results} == {"fine"}


def test_what_is_in_flight_when_the_run_ends_is_let_in(tmp_path):
    """It is paid: closing waits for it, but sends nothing more."""

    async def leave(config):
        async with contextlib.aclosing(AgentChat({"a": config}, SqliteJournal(tmp_path, "lake"))) as chat:
            tasks = [asyncio.create_task(chat.complete(request(f"q{n}"))) for n in range(6)]
            while server.active < 2:
                await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            go.set()

    go = threading.Event()
    with chat_server(lambda asked: go.wait(60) and "fine") as server:
        asyncio.run(leave(agent(server, max_concurrency=2)))
        assert len(server.requests) == 2
    assert read_spend(tmp_path, "lake")[0].replies == 2


def test_secrets_that_servers_quote_are_masked_in_errors_and_a_real_key_in_replies(monkeypatch, ask):
    key = "sk-9f8e7d6c5b4a3210"
    monkeypatch.setenv("MY_KEY", key)
    monkeypatch.setenv("SOME_OTHER_TOKEN", "tok-12345678")
    said = iter(
        [
            Reply(f"your key is {key} and tok-12345678"),
            Reply(status=500, body=f'{{"error": "{key} tok-12345678"}}'.encode()),
        ]
    )
    with chat_server(lambda asked: next(said)) as server:
        config = agent(server, api_key_env="MY_KEY", max_tries=1, max_concurrency=1)
        (reply, error), _ = ask(config, request("one"), request("two"))
    assert reply.text == f"your key is {MASKED} and tok-12345678"
    assert read_reply(reply).kind == "quoted_key"
    assert "[key] [key]" in str(error)
    assert error.__cause__ is None
    assert not any(key.encode() in path.read_bytes() for path in ask.folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "key", ["none", "EMPTY", "sk-no-key-required", "token-abc", "not-needed", "your-api-key-here", "sk-short1"]
)
def test_a_reply_is_not_altered_for_a_placeholder_or_a_variable_that_is_named_like_a_key(key, monkeypatch, ask):
    monkeypatch.setenv("MY_KEY", key)
    monkeypatch.setenv("KEYCLOAK_REALM", "production-of-nonessential-goods")
    text = f"nonessential; EMPTY stays {key}, in production-of-nonessential-goods"
    with chat_server(lambda asked: text) as server:
        [reply], _ = ask(agent(server, api_key_env="MY_KEY"), request())
    assert reply.text == text


PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "Said."}]


def completion_of(content, finish_reason="stop", **message):
    choice = {
        "index": 0,
        "finish_reason": finish_reason,
        "message": {"role": "assistant", "content": content, **message},
    }
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    return Reply(body=json.dumps({"id": "x", "created": 0, "model": "m", "choices": [choice], "usage": usage}).encode())


@pytest.mark.parametrize(
    ("said", "kind", "text"),
    [
        (completion_of(PARTS), None, "Said."),
        (completion_of(PARTS[:1], "length"), "only_reasoning", None),
        (completion_of(None, "length", reasoning_content="I weigh </think> it"), "only_reasoning", None),
        (completion_of(None, "length", reasoning="I weigh it"), "only_reasoning", None),
        (completion_of("Said.", reasoning_content="I weigh it"), None, "Said."),
        (completion_of("Said.", None), None, "Said."),
        (completion_of("half", "content_filter"), "content_filter", None),
        (completion_of("half", "model_length"), "cut_off", None),
        (completion_of("half", "what_is_this"), "unfinished", None),
        (completion_of(None, refusal="I will not."), "content_filter", None),
        (
            completion_of(
                None, tool_calls=[{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
            ),
            "tool_call",
            None,
        ),
    ],
)
def test_the_servers_own_word_and_text_reach_the_reader(said, kind, text, ask):
    with chat_server(lambda asked: said) as server:
        [reply], _ = ask(agent(server), request())
    read = read_reply(reply)
    assert (read.kind, read.text) == (kind, text)
    assert reply.completion_tokens == 5


@pytest.mark.parametrize("finish_reason", ["abort", "error", "network_error"])
def test_a_reply_that_the_server_broke_off_is_asked_for_again_and_then_fails(finish_reason, ask):
    said = iter([completion_of("half", finish_reason), completion_of("whole")])
    with chat_server(lambda asked: next(said)) as server:
        [reply], _ = ask(agent(server), request())
    assert (reply.text, reply.attempts) == ("whole", 2)
    with chat_server(lambda asked: completion_of("half", finish_reason)) as server:
        [error], _ = ask(agent(server, max_tries=2), request("another"))
    assert (error.kind, error.attempts) == ("broken_off", 2)
