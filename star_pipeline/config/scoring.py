"""The scoring models, and how they score: a model loaded here, or one on a server."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator

from star_pipeline.config.addresses import Address
from star_pipeline.config.section import Section, variable_name
from star_pipeline.core.equations.composite import DivideOver, Divisor
from star_pipeline.core.equations.ifd_templates import Template

KeepLoaded = Literal["auto", "both", "one"]


class ServedModel(Section):
    """A scoring model on an OpenAI-compatible completions server; as text, ``MODEL@URL``."""

    model: str = Field(min_length=1, description="the model's name on the server")
    api_base: Address = Field(description="the server's address, such as http://127.0.0.1:8000/v1")
    tokenizer: str | None = Field(
        None, min_length=1, description="Hugging Face id or folder of the model's tokenizer and config; null: model"
    )
    api_key_env: str | None = Field(None, description="environment variable that holds the key; null: no key is sent")
    max_concurrency: int = Field(16, ge=1, le=4096, description="requests in flight at once")
    timeout_s: float = Field(120.0, gt=0, le=3600, description="seconds until a request counts as lost")
    max_tries: int = Field(5, ge=1, le=20, description="requests sent for one answer before the run stops")

    def __str__(self) -> str:
        return f"{self.model}@{self.api_base}"

    @property
    def tokenizer_source(self) -> str:
        return self.tokenizer or self.model

    @field_validator("api_base")
    @classmethod
    def _plain(cls, address: str) -> str:
        return address.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _variable(cls, name: str | None) -> str | None:
        return variable_name(name)


IDLE = {"api_key_env", "max_concurrency", "timeout_s", "max_tries"}
"""Settings of a served model that decide no value."""


def _spelt_out(value: object) -> object:
    """``MODEL@http://…`` as the mapping that it is short for; anything else as it is."""
    if not isinstance(value, str) or "://" not in value:
        return value
    # whatever follows is an address, and is looked at as one; a name never holds ://
    model, _, address = value.partition("@")
    return {"model": model, "api_base": address} if "://" not in model else {"model": "", "api_base": value}


ScoringModel = Annotated[
    Annotated[str, Field(min_length=1), Tag("[name]")] | Annotated[ServedModel, Tag("[served]")],
    Discriminator(lambda value: "[served]" if isinstance(value, dict | ServedModel) else "[name]"),
    BeforeValidator(_spelt_out),
]
"""A Hugging Face id, a folder, ``offline/…``, ``MODEL@http://host:8000/v1``, or a served model spelt out."""


class ScoringConfig(Section):
    small: ScoringModel = Field(
        description="the target: Hugging Face id or path of a causal LM, or MODEL@http://host:8000/v1 of a server"
    )
    large: ScoringModel = Field(description="a larger model of the same kind, given in the same ways")
    template: Template = Field(
        "alpaca",
        description="how a response is asked for. alpaca: a system prompt takes the preamble's place, earlier turns come as "
        "### Instruction and ### Response blocks; plain: system prompt, turns and instruction, a line each; chat: the tokenizer's",
    )
    max_length: int = Field(2048, ge=8, le=1_000_000, description="tokens of the longer pass, start token included")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: float32 on CPU, bfloat16 on GPU"
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda|cuda:\d+( *, *cuda:\d+)*)$",
        description="auto, cpu, cuda (all GPUs), cuda:N, or several as cuda:0,cuda:1",
    )
    batch_tokens: int | None = Field(
        None,
        ge=1,
        description="tokens computed at once; null: 2,048 on a CPU, 16,384 on a GPU; in float32 it changes no value",
    )
    keep_loaded: KeepLoaded = Field("auto", description="models in memory at once; auto: both where there is room")
    divisor: Divisor = Field("p95", description="what Eq. 5 divides gaps by: 95th percentile or maximum")
    divide_over: DivideOver = Field("shard", description="the group of gaps that the divisor is taken over")
