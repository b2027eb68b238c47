"""The scoring models, and how they score: a model loaded here, or one on a server."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from star_pipeline.config.addresses import Address
from star_pipeline.config.section import Section, variable_name
from star_pipeline.core.aliases import JsonMapping, JsonObject
from star_pipeline.core.equations.calibration import Calibration
from star_pipeline.core.equations.composite import DivideOver, Divisor
from star_pipeline.core.equations.ifd_templates import Start, Template

KeepLoaded = Literal["auto", "both", "one"]


_TEMPLATE = "how this model is asked, where it is another way than scoring.template: chat for a tuned model; null: scoring.template"


class LocalModel(Section):
    """A scoring model loaded here, where it needs a template of its own; without, its name is enough."""

    model: str = Field(min_length=1, description="Hugging Face id or folder of a causal LM")
    template: Template | None = Field(None, description=_TEMPLATE)

    def __str__(self) -> str:
        return self.model


class ServedModel(Section):
    """A scoring model on an OpenAI-compatible completions server; as text, ``MODEL@URL``."""

    model: str = Field(min_length=1, description="the model's name on the server")
    template: Template | None = Field(None, description=_TEMPLATE)
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
WHERE = ("batch_tokens", "keep_loaded", "compile_layers", "engine", "ray")
"""Settings of where and how it is computed that decide no value."""
BEFORE: JsonMapping = {"start": "token", "calibration": "none", "least_tokens": 1}
"""Settings that came later, with what was done before."""


def as_before(scoring: JsonMapping) -> JsonObject:
    """The settings as plain data, without those that came later where they ask for what was done before.

    So a value that computes the same leaves a fingerprint as it was, and lakes of earlier versions go on as the configuration's own.
    """
    kept = {key: value for key, value in scoring.items() if BEFORE.get(key, ...) != value}
    for size in ("small", "large"):
        if isinstance(model := kept.get(size), Mapping) and model.get("template") is None:
            kept[size] = {key: value for key, value in model.items() if key != "template"}
    return kept


def _spelt_out(value: object) -> object:
    """``MODEL@http://…`` as the mapping that it is short for, a mapping of a name alone as the name; anything else as it is."""
    if isinstance(value, dict) and isinstance(value.get("model"), str) and "api_base" not in value:
        named = _spelt_out(value["model"])
        rest = {key: given for key, given in value.items() if (key, given) != ("template", None) and key != "model"}
        return {**rest, **named} if isinstance(named, dict) else {"model": named, **rest} if rest else named
    if not isinstance(value, str) or "://" not in value:
        return value
    # whatever follows is an address, and is looked at as one; a name never holds ://
    model, _, address = value.partition("@")
    return {"model": model, "api_base": address} if "://" not in model else {"model": "", "api_base": value}


def _form(value: object) -> str:
    if isinstance(value, dict):
        return (
            "[served]"
            if value.keys() & (ServedModel.model_fields.keys() - LocalModel.model_fields.keys())
            else "[local]"
        )
    return "[served]" if isinstance(value, ServedModel) else "[local]" if isinstance(value, LocalModel) else "[name]"


ScoringModel = Annotated[
    Annotated[str, Field(min_length=1), Tag("[name]")]
    | Annotated[LocalModel, Tag("[local]")]
    | Annotated[ServedModel, Tag("[served]")],
    Discriminator(_form),
    BeforeValidator(_spelt_out),
]
"""A Hugging Face id, a folder, ``offline/…``, ``MODEL@http://host:8000/v1``, or one of them spelt out: with ``api_base`` a served
model, without one that is loaded here."""
AnyModel = str | LocalModel | ServedModel


class RayConfig(Section):
    """A Ray cluster whose machines hold the scoring models, for ``scoring.engine: ray``."""

    address: str = Field(
        "auto",
        pattern=r"^(auto|local|[^\s/]+:\d+)$",
        description="auto: the cluster that this machine is part of (or RAY_ADDRESS); HOST:PORT: that one; local: one of this machine, "
        "started and ended with the command",
    )
    replicas: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = Field(
        "auto", description="processes that hold the models; auto: as many as the cluster has room for"
    )
    gpus: float = Field(
        1.0, ge=0, le=1, description="GPUs of a replica: one, a share of one, or 0 to score on processors"
    )
    cpus: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="threads of a replica without a GPU; null: as many as the lake's scores were computed with, or this machine takes",
    )
    wait_s: float = Field(
        60.0, gt=0, le=3600, description="seconds until the cluster must have answered, and a replica must have started"
    )
    tolerance: float = Field(
        0.0,
        ge=0,
        le=1,
        description="nats by which a replica's losses of the probe may differ from the lake's; 0: not by a bit. Above 0 it is part of "
        "the configuration's fingerprint",
    )


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
    start: Start = Field(
        "token",
        description="what both passes begin with. token: one start token, as in Eq. 4; skip_first: the same, but the response's first "
        "token is scored in neither pass; newline: the start token and a newline",
    )
    calibration: Calibration = Field(
        "none",
        description="none: the gap is the difference of the IFDs; rank: of their ranks in the shard under each model, for models whose "
        "IFDs lie on different scales; rank_by_length: of ranks among responses of like length",
    )
    least_tokens: int = Field(
        1,
        ge=1,
        le=1000,
        description="a response of fewer scored tokens under either model has no gap, and is not judged",
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
    compile_layers: bool = Field(
        False,
        description="on a GPU: torch.compile for the models' layers, which takes some seconds a model and a C compiler; a lake keeps what "
        "its first scores were computed with, since it moves their last digits as far as bfloat16 does",
    )
    keep_loaded: KeepLoaded = Field("auto", description="models in memory at once; auto: both where there is room")
    engine: Literal["local", "ray"] = Field(
        "local",
        description="who computes under models that are not served, and embeds: this process, or replicas on a Ray cluster, which "
        "embed with ray.gpus: 0 alone",
    )
    ray: RayConfig = RayConfig()
    divisor: Divisor = Field("p95", description="what Eq. 5 divides gaps by: 95th percentile or maximum")
    divide_over: DivideOver = Field("shard", description="the group of gaps that the divisor is taken over")

    @model_validator(mode="after")
    def _one_device(self) -> "ScoringConfig":
        expected = ("auto", "cuda" if self.ray.gpus else "cpu")
        if self.engine == "ray" and self.device not in expected:
            raise ValueError(
                f"device: {self.device}, and replicas have ray.gpus: {self.ray.gpus:g}; leave device out: replicas compute on the GPU that "
                "Ray gives them, with ray.gpus: 0 on processors"
            )
        return self

    @property
    def models(self) -> tuple[AnyModel, AnyModel]:
        """Small and large."""
        return self.small, self.large

    @property
    def allowed_difference(self) -> float:
        """Nats by which losses may differ from the lake's others; where it is 0, the engine decides no value."""
        return self.ray.tolerance if self.engine == "ray" else 0.0

    def template_of(self, model: AnyModel) -> Template:
        return (None if isinstance(model, str) else model.template) or self.template
