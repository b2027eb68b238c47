"""What a request costs, and the most that it can cost."""

import pytest

from star_pipeline.adapters.llm.prices import FREE, Price, max_tokens, price, prompt_bound, require_bounds, worst_pico
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.errors import ConfigError
from star_pipeline.core.ports import ChatRequest
from star_pipeline.core.records import Message


@pytest.mark.parametrize(
    "model", ["hosted_vllm/Qwen/Qwen2.5-7B-Instruct", "openai/gpt-5.9-new", "anthropic/claude-opus-99"]
)
def test_a_model_that_no_map_lists_has_no_price_also_where_litellm_makes_an_entry_up(model):
    assert price(AgentConfig(model=model)) is None
    with pytest.raises(ConfigError, match="has no price"):
        require_bounds({"a": AgentConfig(model=model, params={"max_tokens": 9})})


def test_the_configurations_price_wins_over_the_maps_and_offline_agents_are_free():
    assert price(AgentConfig(model="openai/gpt-4o-mini")) == Price(1.5e-7, 6e-7)
    assert price(AgentConfig(model="openai/gpt-4o-mini", input_cost_per_token=1e-6)) == Price(1e-6, 0.0)
    assert price(AgentConfig(model="offline/tutor")) == FREE


def test_the_judges_own_params_are_looked_at_too():
    agents = {"j": AgentConfig(model="openai/gpt-4o-mini", params={"max_tokens": 9})}
    require_bounds(agents, "j", {"temperature": 0.0})
    with pytest.raises(ConfigError, match=r"agent j .* has no params\.max_tokens"):
        require_bounds(agents, "j", {"max_tokens": None})


def test_the_worst_case_is_a_token_a_byte_and_all_that_max_tokens_allows():
    request = ChatRequest("a", (Message("system", "ü"), Message("user", "four")), "t", "v", params={"n": 3})
    agent = AgentConfig(model="m", params={"max_tokens": 10})
    assert prompt_bound(request) == 6 + 256 + 2 * 16
    assert worst_pico(request, agent, Price(1e-6, 1e-3)) == 294 * 10**6 + 30 * 10**9 + 1
    assert max_tokens({"max_completion_tokens": 7, "max_tokens": None}) == 7
