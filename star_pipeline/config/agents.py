"""An agent: an LLM that rewrites, responds or judges, and how it may be asked."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from star_pipeline.config.addresses import Address
from star_pipeline.config.params import Params
from star_pipeline.config.section import Section, variable_name
from star_pipeline.core.equations.prompts import INSTRUCTION_PROMPTS

SPEAK_OPENAIS = ("hosted_vllm", "openai", "litellm_proxy", "lm_studio", "llamafile")
"""litellm's names of providers whose servers, at an address of one's own, take OpenAI's requests as they are."""


class AgentConfig(Section):
    model: str = Field(
        min_length=1, description="litellm model, such as hosted_vllm/Qwen/Qwen2.5-7B-Instruct or openai/gpt-4o-mini"
    )
    api_base: Address | None = Field(
        None, description="the server's address, without credentials; null: the provider's own"
    )
    api_key_env: str | None = Field(
        None, description="environment variable that holds the key; null: the provider's usual one"
    )
    max_concurrency: int = Field(16, ge=1, le=4096, description="requests in flight at once")
    requests_per_minute: int | None = Field(None, ge=1, description="requests started a minute; null: no limit")
    tokens_per_minute: int | None = Field(
        None,
        ge=1,
        description="tokens sent and received in any minute, by estimate until the reply is there; null: no limit",
    )
    adaptive_concurrency: bool = Field(
        True,
        description="begin with a quarter of max_concurrency, and use fewer where the server throttles or slows down",
    )
    patience_s: float = Field(
        30.0, ge=0, le=3600, description="seconds that the agent may be out of reach before the run stops"
    )
    timeout_s: float = Field(120.0, gt=0, le=3600, description="seconds until a request counts as lost")
    max_tries: int = Field(5, ge=1, le=20, description="requests sent for one reply before it counts as failed")
    instruction_prompt: str = Field(
        "rewrite", description=f"template when it rewrites: {', '.join(INSTRUCTION_PROMPTS)} or your own"
    )
    response_prompt: str = Field("respond", description="template when it responds")
    input_cost_per_token: float | None = Field(None, ge=0, description="USD; null: litellm's price map")
    output_cost_per_token: float | None = Field(None, ge=0, description="USD; null: litellm's price map")
    params: Params = Field(default_factory=dict, description="passed on to the model: temperature, max_tokens, …")

    client: Literal["direct", "litellm"] | None = Field(
        None,
        description="how its requests go out. direct: to its api_base, which speaks OpenAI's chat API, with a sixth of the work; litellm: "
        "through litellm; null: direct for "
        + ", ".join(SPEAK_OPENAIS)
        + " models at an api_base of your own, litellm for all others",
    )

    mode: Literal["live", "batch"] = Field(
        "live",
        description="live: each request is answered at once; batch: a stage's requests go out as batch jobs (OpenAI's files and batches "
        "endpoints), at about half the price, answered within 24 h, usually sooner; requests_per_minute, tokens_per_minute and "
        "max_concurrency do not limit them",
    )
    batch_discount: float | None = Field(
        None,
        ge=0,
        le=1,
        description="what a batch costs less, as a share of the price: 0.5 for half; null: what litellm's price map tells, else 0.5",
    )

    @property
    def goes_directly(self) -> bool:
        """Whether its requests go to its server without litellm."""
        return self._can_go_directly if self.client is None else self.client == "direct"

    @property
    def _can_go_directly(self) -> bool:
        provider, _, name = self.model.partition("/")
        # OpenAI's own newer models want other parameters than older ones, which litellm knows
        own = bool(self.api_base) and urlsplit(str(self.api_base)).hostname != "api.openai.com"
        return own and provider in SPEAK_OPENAIS and bool(name)

    @model_validator(mode="after")
    def _way_out(self) -> "AgentConfig":
        if self.client == "direct" and not self._can_go_directly:
            raise ValueError(
                f"client: direct needs a model of {', '.join(SPEAK_OPENAIS)} and an api_base of your own, and this is {self.model!r}; "
                "set client: litellm"
            )
        return self

    @model_validator(mode="after")
    def _batches(self) -> "AgentConfig":
        if (
            self.mode == "batch"
            and self.model.partition("/")[0] not in ("openai", "azure")
            and not self._can_go_directly
        ):
            raise ValueError(
                f"mode: batch needs a model of openai or azure, or of {', '.join(SPEAK_OPENAIS)} at an api_base of your own, and this "
                f"is {self.model!r}; set mode: live"
            )
        return self

    @field_validator("api_key_env")
    @classmethod
    def _variable(cls, name: str | None) -> str | None:
        return variable_name(name)
