"""What can be told before any money is spent: keys, servers that nobody runs, models that are not there."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from star_pipeline.adapters.hub import only_from_here
from star_pipeline.adapters.model_errors import check_folder, unloadable
from star_pipeline.config.models import StarConfig
from star_pipeline.config.scoring import ScoringConfig, ServedModel
from star_pipeline.core.errors import AgentDown, ConfigError, ModelError, in_short

if TYPE_CHECKING:
    import transformers


_OF_AN_EMBEDDING = ("modules.json", "config.json")
_WEIGHTS = {".safetensors", ".bin", ".h5", ".onnx"}


def check_agents(config: StarConfig) -> None:
    """Raises ConfigError for a key that is not set, for a judge that tells no log-probabilities where they are wanted and, with a
    budget, for an agent without price or ``max_tokens``; AgentDown for a server at whose port nobody listens."""
    agents = config.agents_in_use
    if config.budget.usd is None and all(agent.model.startswith("offline/") for agent in agents.values()):
        return
    from star_pipeline.adapters.llm.prices import require_bounds
    from star_pipeline.adapters.llm.secrets import require_keys

    require_keys(agents)
    if config.budget.usd is not None:
        require_bounds(agents, config.judge.judges, config.judge_rules.request_params)
    for name, agent in agents.items():
        if agent.api_base and _refused(agent.api_base):
            raise AgentDown(
                f"agent {name} ({agent.model}): nobody answers at {agent.api_base}; start the server or correct api_base"
            )
    if config.judge.mode == "logprobs":
        from star_pipeline.adapters.llm.logprobs import logprobs_problem

        for name in config.judge.judges:
            if problem := logprobs_problem(config, name):
                raise ConfigError(problem)


def check_scoring_models(scoring: ScoringConfig) -> None:
    """Raises ModelError where a scoring model's configuration, tokenizer or weights cannot be had, or its server does not answer;
    and where the Ray cluster that is to score does not answer, or has no machine that could."""
    for model in scoring.models:
        if isinstance(model, ServedModel):
            describe_served(model, scoring.max_length)
        elif not str(model).startswith("offline/"):
            describe_model(str(model))
    if scoring.engine == "ray" and not all(isinstance(model, ServedModel) for model in scoring.models):
        from star_pipeline.adapters.scoring.replicas.pool import check_room

        check_room(scoring)


def describe_served(served: ServedModel, max_length: int) -> str:
    """Load a served model's tokenizer, ask the server about two tokens, and say what was found. Raises ModelError, ConfigError."""
    from star_pipeline.adapters.scoring.served import describe_server

    if _refused(served.api_base):
        raise ModelError(f"scoring model {served}: nobody answers; start the server or correct api_base")
    return f"{_described(served.tokenizer_source)[0]}; {describe_server(served, max_length)}"


def describe_model(name: str) -> str:
    """Load a model's configuration and tokenizer, open its weights, and say what it is. Raises ModelError."""
    import huggingface_hub

    from star_pipeline.adapters import weight_files as files

    if Path(name).is_dir():
        files.check_files(name, Path(name))
    said, config, tokenizer, here = _described(name)
    files.check_kind(name, config)
    files.check_vocabulary(name, tokenizer, config)
    folder = files.model_folder(name) or Path(name)
    found = files.weight_files(folder)
    if not Path(name).is_dir() and not (found and all(path.exists() for path in found)):
        if here or huggingface_hub.is_offline_mode():
            raise ModelError(
                f"scoring model {name!r}: its configuration is on this machine, its weights are not, and they cannot be downloaded now; "
                "expected a network (and HF_HUB_OFFLINE unset), HF_ENDPOINT with a mirror's address, or the folder of a causal LM"
            )
        return f"{said}; its weights are downloaded when they are first needed"
    return f"{said}, {files.check_weights(name, folder, config) / 1e9:,.2g} GB of weights"


def describe_embedding(name: str) -> str:
    """Where an embedding model's files come from, without loading it. Raises ModelError where they cannot be had."""
    import huggingface_hub as hub

    from star_pipeline.adapters.embedder import EXPECTED, WHAT, embedding_source

    if embedding_source(name) != name:
        return "bundled"
    expected = "expected a sentence-transformers model's id or folder"
    folder = Path(name).expanduser()
    if folder.is_dir() or name.startswith(("/", ".", "~")):
        if not any((folder / file).is_file() for file in _OF_AN_EMBEDDING):
            raise ModelError(f"{WHAT} {name!r}: {' and '.join(_OF_AN_EMBEDDING)} are not there; {expected}")
        return "a folder"
    here = only_from_here(name, WHAT, EXPECTED) or hub.is_offline_mode()
    cached = [path for file in _OF_AN_EMBEDDING if isinstance(path := hub.try_to_load_from_cache(name, file), str)]
    weights = [path for kept in cached[:1] for path in Path(kept).parent.rglob("*") if path.suffix in _WEIGHTS]
    if weights:
        return "on this machine"
    if here:
        raise ModelError(
            f"{WHAT} {name!r}: not on this machine, and it cannot be downloaded now; expected a network (and HF_HUB_OFFLINE unset), "
            f"HF_ENDPOINT with a mirror's address, or {EXPECTED}"
        )
    reason = Exception("no file was asked for")
    for file in _OF_AN_EMBEDDING:
        try:
            hub.get_hf_file_metadata(hub.hf_hub_url(name, file))
            return "on the hub, and downloaded when it is first needed"
        except Exception as error:  # whatever the HTTP library says beside the hub's own errors
            reason = error
    raise ModelError(
        f"{WHAT} {name!r} cannot be had of {hub.constants.ENDPOINT}: {in_short(reason)}; {expected}"
    ) from reason


def _described(
    name: str,
) -> tuple[str, transformers.PretrainedConfig | None, transformers.PreTrainedTokenizerBase | None, bool]:
    """What a model is, its configuration, its tokenizer, and whether only what is on this machine can be had. Raises ModelError."""
    check_folder(name)
    import transformers

    transformers.utils.logging.set_verbosity_error()
    here = only_from_here(name)
    try:
        config = transformers.AutoConfig.from_pretrained(name, local_files_only=here)
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, local_files_only=here)
    except Exception as error:  # whatever transformers says to files that are not what they should be
        raise unloadable(name, error) from error
    if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
        raise ModelError(
            f"scoring model {name!r}: its tokenizer has neither BOS nor EOS; set bos_token in tokenizer_config.json"
        )
    return f"{config.model_type}, {len(tokenizer):,} tokens in its vocabulary", config, tokenizer, here


def _refused(address: str) -> bool:
    parts = urlsplit(address)
    if not parts.hostname:
        raise ConfigError(f"api_base {address!r} is no address; expected something like http://127.0.0.1:8000/v1")
    try:
        socket.create_connection(
            (parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)), timeout=5
        ).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False  # a proxy may still let requests through
    return False
