"""What concerns an agent and not a row: adapted to, or the end of the run with one line and a remedy."""

import json

import pytest

from star_pipeline.adapters.backoff import retry_after_s, retry_after_said
from star_pipeline.adapters.llm.endpoint import describe_endpoint
from star_pipeline.adapters.llm.request_forms import beyond_the_context, refused_parameter
from star_pipeline.config.models import AgentConfig, JudgeConfig
from star_pipeline.core.errors import AgentDown, CallError
from star_pipeline.core.records import Message
from star_pipeline_tests.adapters.llm.test_chat import Asker, agent, request
from star_pipeline_tests.llm_server import Reply, chat_server

SYSTEM = (Message("system", "Be brief."), Message("user", "Why?"))


@pytest.fixture
def ask(tmp_path):
    return Asker(tmp_path)


def refusal(text, status=400, **headers):
    return Reply(status=status, body=json.dumps({"error": {"message": text, "code": status}}).encode(), headers=headers)


NO_SYSTEM = (
    refusal("System role not supported"),
    refusal("Conversation roles must alternate user/assistant/user/assistant/..."),
    refusal("Developer instruction is not enabled for models/gemma-3-27b-it"),
    refusal("Template error: system role not supported", 422),
    refusal("Only user and assistant roles are supported!", 500),
    refusal("No, thank you"),  # of a server that says nothing: it is tried
)


@pytest.mark.parametrize("said", NO_SYSTEM)
def test_a_server_without_a_system_role_gets_its_text_in_the_users_message_and_is_paid_once(said, ask):
    with chat_server(lambda asked: said if asked["messages"][0]["role"] == "system" else "fine") as server:
        config = agent(server, max_concurrency=1)
        replies, waits = ask(config, *(request(messages=(*SYSTEM, Message("user", str(n)))) for n in range(4)))
        assert [reply.text for reply in replies] == ["fine"] * 4
        assert waits == []
        # once refused, then known for good
        assert len(server.requests) == 5
        assert server.requests[1]["messages"][0] == {"role": "user", "content": "Be brief.\n\nWhy?"}
        again, _ = ask(config, *(request(messages=(*SYSTEM, Message("user", str(n)))) for n in range(4)))
        assert len(server.requests) == 5
        assert [reply.text for reply in again] == ["fine"] * 4


def test_an_empty_system_message_is_none(ask):
    with chat_server(lambda asked: "fine") as server:
        ask(agent(server), request(messages=(Message("system", " "), Message("user", "Why?"))))
        assert server.requests[0]["messages"] == [{"role": "user", "content": "Why?"}]


def unsupported(name):
    return refusal(
        f"Unsupported value: '{name}' does not support 0.0 with this model. Only the default (1) value is supported."
    )


def test_a_default_that_is_refused_is_left_out_and_a_parameter_that_somebody_set_stops_the_run(ask):
    with chat_server(lambda asked: unsupported("temperature") if "temperature" in asked else "fine") as server:
        default = JudgeConfig(agent="a")
        asked = request(params=default.params, optional=default.optional)
        [reply], _ = ask(agent(server), asked)
        assert (reply.text, len(server.requests)) == ("fine", 2)
        written = JudgeConfig(agent="a", params={"temperature": 0.0})
        [error], _ = ask(agent(server), request("other", params=written.params, optional=written.optional))
        assert isinstance(error, AgentDown)
        assert "agent a: its server refuses temperature: 0.0" in str(error)
        assert "take it out in judge.params" in str(error)
        [error], _ = ask(agent(server, params={"temperature": 0.7}), request("third"))
        assert "take it out in agents.a.params" in str(error)


def test_max_tokens_gets_the_name_that_the_server_wants(ask):
    said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    with chat_server(lambda asked: refusal(said) if "max_tokens" in asked else "fine") as server:
        [reply], _ = ask(agent(server, params={"max_tokens": 9}), request())
        assert reply.text == "fine"
        assert server.requests[1]["max_completion_tokens"] == 9


def test_an_agent_that_refuses_every_request_in_the_same_way_stops_the_run_after_a_few(ask):
    with chat_server(lambda asked: refusal(f"no such thing as {len(server.requests)}")) as server:
        errors, _ = ask(agent(server, max_concurrency=1), *(request(f"q{n}") for n in range(20)))
        assert [type(error) for error in errors] == [CallError] * 4 + [AgentDown] * 16
        assert "refused in the same way" in str(errors[-1])
        assert len(server.requests) == 5


def test_a_request_that_is_refused_for_what_it_holds_is_a_row_of_its_own(ask):
    with chat_server(
        lambda asked: refusal("bad words") if "bad" in asked["messages"][0]["content"] else "fine"
    ) as server:
        results, _ = ask(
            agent(server, max_concurrency=1), *(request(f"{'bad' if n % 2 else 'q'}{n}") for n in range(40))
        )
    assert {type(result).__name__ for result in results[1::2]} == {"CallError"}
    assert all(result.text == "fine" for result in results[::2])


@pytest.mark.parametrize(
    "said",
    [
        refusal("Insufficient Balance", 402), refusal("Insufficient credits. Add more using https://openrouter.ai", 402),
        refusal("Your credit balance is too low to access the Anthropic API."), refusal("You exceeded your current quota", 429),
        refusal("Rate limit exceeded: free-models-per-day", 429), refusal("account balance: insufficient account balance", 403),
    ],
)  # fmt: skip  # read as a table
def test_an_account_without_money_or_a_spent_day_stops_the_run_at_once(said, ask):
    with chat_server(lambda asked: said) as server:
        [error], waits = ask(agent(server), request())
        assert isinstance(error, AgentDown)
        assert "(quota)" in str(error)
        assert "top its account up" in str(error)
        assert (waits, len(server.requests)) == ([], 1)


@pytest.mark.parametrize("wish", ["86400", "9" * 400, "inf", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_server_that_wants_to_be_left_alone_for_a_day_is_not_waited_for(wish, ask):
    with chat_server(lambda asked: refusal("1000 requests used", 429, **{"Retry-After": wish})) as server:
        [error], waits = ask(agent(server), request())
        assert isinstance(error, AgentDown)
        assert "run again after" in str(error)
        assert (waits, len(server.requests)) == ([], 1)


def test_a_minutes_quota_is_waited_for_whatever_it_is_called(ask):
    said = iter([refusal('You exceeded your current quota. "retryDelay": "34s"', 429), Reply("fine")])
    with chat_server(lambda asked: next(said)) as server:
        [reply], waits = ask(agent(server), request())
    assert reply.text == "fine"
    assert 34 <= waits[0] <= 60


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("try again in 7m12s", 432), ("try again in 1h2m3.5s", 3723.5),
     ('"retrydelay": "34s"', 34), ("try again in 20 ms", None), ("try again", None)],
)  # fmt: skip  # read as a table
def test_how_long_to_wait_is_read_from_words(text, seconds):
    assert retry_after_said(text) == seconds


@pytest.mark.parametrize("header", ["soon", "", "nan", "-5", "Fri, 99 Foo 0000", "\x00"])
def test_a_header_that_says_nothing_asks_for_no_wait(header):
    assert not retry_after_s(header)


def test_a_server_that_wants_a_key_and_gets_none_ends_the_run_at_once_and_says_which_setting(ask, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for provider in ("openai", "hosted_vllm", "litellm_proxy", "deepseek"):
        with chat_server(lambda asked: Reply(status=401)) as server:
            [error], waits = ask(agent(server, model=f"{provider}/m"), request())
            assert isinstance(error, AgentDown), provider
            assert "no api_key_env is set" in str(error)
            assert (waits, len(server.requests)) == ([], 1)
    with chat_server(lambda asked: "fine") as server:  # and one that wants none is asked without
        [reply], _ = ask(agent(server, model="openai/m"), request())
        assert reply.text == "fine"


@pytest.mark.parametrize("provider", ["hosted_vllm", "openai", "deepseek"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_takes_the_key_or_the_prompt_to_another_origin(status, provider, ask, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret-0123456789")
    with chat_server(lambda asked: "stolen") as other:
        away = Reply(status=status, body=b"", headers={"Location": f"{other.url}/chat/completions"})
        with chat_server(lambda asked: away) as server:
            [error], _ = ask(agent(server, model=f"{provider}/m", api_key_env="MY_KEY"), request())
        assert isinstance(error, AgentDown)
        assert "api_base" in str(error)
        assert other.requests == []


def test_doctor_finds_out_what_it_can_of_a_key_and_sends_it_nowhere_else(monkeypatch):
    monkeypatch.setenv("MY_KEY", "right")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def found(server, **changes):
        return describe_endpoint(AgentConfig(model="openai/m", api_base=server.url, **changes))

    with chat_server(lambda asked: "x") as server:
        assert "answers without a key" in found(server)[1]
        assert "open to all" in found(server, api_key_env="MY_KEY")[1]
        server.key = "Bearer right"
        well, said = found(server)
        assert not well
        assert "api_key_env is not set" in said
        assert found(server, api_key_env="MY_KEY") == (True, "answers, and takes the key")
        server.key = "Bearer other"
        assert "rejects the key (HTTP 401); put a valid one into MY_KEY" in found(server, api_key_env="MY_KEY")[1]
        with chat_server(lambda asked: "x") as elsewhere:
            server.key, server.sends_on = "", f"{elsewhere.url}/models"
            well, said = found(server, api_key_env="MY_KEY")
            assert not well
            assert elsewhere.url in said
            assert elsewhere.listed == 0


def test_what_a_refusal_is_about():
    given = {"temperature": 0.0, "stop": ["x"], "max_tokens": 5000, "n": 1, "user": "u"}
    assert refused_parameter("unsupported value: 'temperature' does not support 0.0", given) == "temperature"
    assert refused_parameter("only user and assistant roles are not supported; stop", given) is None
    assert refused_parameter("unrecognized request argument: 'stop'", given) == "stop"
    assert refused_parameter("the temperature of the sea", given) is None
    assert beyond_the_context("this model's maximum context length is 4,096 tokens", given) == "max_tokens"
    assert beyond_the_context("this model's maximum context length is 8192 tokens", given) is None


LOADING = (
    refusal("Loading model", 503),
    refusal("Model mistralai/Mistral-7B is currently loading", 503),
    refusal("the model is still being loaded", 500),
)


@pytest.mark.parametrize("said", LOADING)
def test_a_server_that_still_loads_its_model_is_waited_for_and_that_is_no_try(said, ask):
    with chat_server(lambda asked: said if len(server.requests) <= 12 else "fine") as server:
        [reply], waits = ask(agent(server, max_tries=2, patience_s=1), request())
    assert reply.text == "fine"
    assert len(waits) == 12
    assert min(waits) >= 5


def test_a_server_that_never_has_its_model_loaded_ends_the_run_with_that_line(ask):
    with chat_server(lambda asked: refusal("Loading model", 503)) as server:
        [error], waits = ask(agent(server), request())
    assert isinstance(error, AgentDown)
    assert "it has been loading its model for 30 min" in str(error)
    assert 1700 <= sum(waits) <= 1900


CANNOT = (
    "model requires more system memory (5.6 GiB) than is available (3.1 GiB)",
    "unable to load model: /models/blob",
    "Failed to load model",
)


@pytest.mark.parametrize("said", CANNOT)
def test_a_model_that_its_server_cannot_hold_is_not_asked_for_again(said, ask):
    with chat_server(lambda asked: refusal(said, 500)) as server:
        [error], waits = ask(agent(server), request())
        assert isinstance(error, AgentDown)
        assert "serve a smaller model" in str(error)
        assert (waits, len(server.requests)) == ([], 1)


def test_doctor_tells_a_server_that_loads_and_one_whose_queue_is_longer_than_it_works():
    with chat_server(lambda asked: "x") as server:
        config = AgentConfig(model="hosted_vllm/m", api_base=server.url, max_concurrency=16)
        assert describe_endpoint(config)[1].startswith("answers")
        server.pages["/props"] = Reply(json.dumps({"total_slots": 2}))
        well, said = describe_endpoint(config)
        assert well
        assert "works on 2 at once, and max_concurrency is 16" in said
        assert "set max_concurrency: 2" in said
        assert "at once" not in describe_endpoint(config.model_copy(update={"max_concurrency": 2}))[1]
        server.pages = {"/metrics": Reply('# HELP x\nvllm:num_requests_waiting{model_name="m"} 37.0\n')}
        assert "37 requests wait in its queue" in describe_endpoint(config)[1]
        server.pages = {"/health": Reply('{"error": {"message": "Loading model"}}', status=503)}
        well, said = describe_endpoint(config)
        assert not well
        assert "still loading its model" in said
