"""What a request costs, and what it may cost at most."""

from collections.abc import Container, Mapping
from dataclasses import dataclass

from star_pipeline.adapters.llm.library import load_litellm
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.aliases import JsonMapping
from star_pipeline.core.errors import ConfigError
from star_pipeline.core.journal import PICO
from star_pipeline.core.ports import ChatRequest

_MOST_PICO = 10**15
_UNPRICED = frozenset({"hosted_vllm", "lm_studio", "llamafile", "custom_openai"})
"""Servers of one's own, of which litellm's map holds none."""
_BYTES_A_REQUEST, _BYTES_A_MESSAGE = 256, 16
"""Tokens that a server's chat template may add: default system prompt, roles, borders."""


@dataclass(frozen=True)
class Price:
    """USD a token."""

    prompt: float
    completion: float

    def pico(self, prompt_tokens: int, completion_tokens: int) -> int:
        """The cost in 1e-12 USD, at most what one request can sensibly cost: sums have to fit into 64 bits."""
        cost = prompt_tokens * self.prompt * PICO + completion_tokens * self.completion * PICO
        return round(cost) if cost < _MOST_PICO else _MOST_PICO

    def less(self, discount: float) -> "Price":
        return Price(self.prompt * (1 - discount), self.completion * (1 - discount))


FREE = Price(0.0, 0.0)
_BATCH_DISCOUNT = 0.5
"""What OpenAI, Azure and their like take off for a batch."""


def price(agent: AgentConfig, batch: bool | None = None) -> Price | None:
    """The configuration's price, else the one in litellm's map; offline agents are free; None where nobody knows one.

    ``batch``: of a request that goes out in a batch; None: as the agent's ``mode`` says.
    """
    batch = agent.mode == "batch" if batch is None else batch
    discount = (_BATCH_DISCOUNT if agent.batch_discount is None else agent.batch_discount) if batch else 0.0
    if agent.input_cost_per_token is not None or agent.output_cost_per_token is not None:
        return Price(agent.input_cost_per_token or 0.0, agent.output_cost_per_token or 0.0).less(discount)
    if agent.model.startswith("offline/"):
        return FREE
    if agent.model.partition("/")[0] in _UNPRICED:
        return None
    litellm = load_litellm()
    try:
        known = litellm.get_model_info(agent.model)
    except Exception:  # litellm raises a bare Exception for a model that its map lacks
        return None
    # for a new name of a known family litellm makes an entry up, with price 0: only what its map itself holds counts
    listed = litellm.model_cost.get(known.get("key"), {})
    if "input_cost_per_token" not in listed:
        return None
    told = (listed.get("input_cost_per_token_batches"), listed.get("output_cost_per_token_batches"))
    if batch and agent.batch_discount is None and None not in told:
        return Price(*told)
    return Price(listed["input_cost_per_token"] or 0.0, listed.get("output_cost_per_token") or 0.0).less(discount)


def max_tokens(params: JsonMapping) -> int | None:
    """The most tokens that a reply may have, over all the ``n`` that are asked for; None where there is no limit."""
    most = params.get("max_completion_tokens") or params.get("max_tokens")
    return int(most) * int(params.get("n") or 1) if most else None


def prompt_bytes(request: ChatRequest) -> int:
    return sum(len(message.content.encode("utf-8", "surrogatepass")) for message in request.messages)


def prompt_bound(request: ChatRequest) -> int:
    """More tokens than the prompt can have: no tokenizer makes more than one of a byte."""
    return prompt_bytes(request) + _BYTES_A_REQUEST + _BYTES_A_MESSAGE * len(request.messages)


def worst_pico(request: ChatRequest, agent: AgentConfig, known: Price) -> int:
    """The most that one try can cost, in 1e-12 USD. Raises ConfigError where nothing limits the reply."""
    most = max_tokens({**agent.params, **request.params})
    if most is None and known.completion:
        raise _unlimited(request.agent, agent)
    return known.pico(prompt_bound(request), most or 0) + 1


def require_bounds(
    agents: Mapping[str, AgentConfig],
    judges: Container[str] = (),
    judge_params: JsonMapping | None = None,
) -> None:
    """What a budget needs: a price and a limit of tokens for every agent. Raises ConfigError, naming the first that lacks one."""
    for name, agent in agents.items():
        known = price(agent)
        if known is None:
            raise ConfigError(
                f"agent {name} ({agent.model}) has no price, and budget.usd is set; give input_cost_per_token and "
                "output_cost_per_token (USD; 0 for a server of your own), or set budget.usd: null"
            )
        roles = [agent.params, *([{**agent.params, **(judge_params or {})}] if name in judges else [])]
        if known.completion and any(max_tokens(params) is None for params in roles):
            raise _unlimited(name, agent)


def _unlimited(name: str, agent: AgentConfig) -> ConfigError:
    return ConfigError(
        f"agent {name} ({agent.model}) has no params.max_tokens, and budget.usd is set: what a reply may cost has to be known "
        "before it is asked for; set params: {max_tokens: 1024}, or set budget.usd: null"
    )
