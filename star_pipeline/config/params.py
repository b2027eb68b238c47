"""What may be passed on to a model with each request: no secret, and nothing that the pipeline could not take an answer to."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel

from star_pipeline.config.addresses import holds_credentials
from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.equations.judge_modes import JudgeMode

_SECRET = re.compile(
    r"api_?key|authori[sz]ation|secret|passw|bearer|credential|private_?key|access_?key|cookie|(^|_)(key|keys|pwd|auth)$",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"(^|_)(api|access|auth|authentication|bearer|hf|hub|huggingface|id|ad|refresh|session|security|azure|github|gitlab|user|personal"
    r"|jwt|csrf|service|client|identity|web_identity|watsonx|replicate|x)_?tokens?$|^tokens?$",
    re.IGNORECASE,
)
_HEADER = re.compile(r"key|token|auth|secret|cookie|passw|credential", re.IGNORECASE)
_SPELLED_OUT = re.compile(
    r"\s*(?:(?:bearer|basic|token)\s+\S{8,}|(?:sk|pk|rk)-[\w-]{16,}\s*$|(?:hf|gsk|xai|ghp|glpat|AIza)[_-]?\w{20,}\s*$)",
    re.IGNORECASE,
)
"""Values that are secrets whatever their name."""
_ELSEWHERE = {
    "model": "set the agent's model",
    "messages": "prompts make the messages",
    "prompt": "prompts make the messages",
    "api_base": "set the agent's api_base",
    "base_url": "set the agent's api_base",
    "timeout": "set the agent's timeout_s",
    "request_timeout": "set the agent's timeout_s",
    "max_retries": "set the agent's max_tries",
    "num_retries": "set the agent's max_tries",
    "fallbacks": "another model would answer unseen; make it an agent of its own",
    "mock_response": "no model would be asked",
}
_CALLS = "the reply would be a call of a tool, and a text is expected"
_CANNOT = {
    "stream": "replies are taken whole",
    "stream_options": "replies are taken whole",
    "n": "one reply is taken, and all would be paid",
    "best_of": "one reply is taken, and all would be paid",
    "tools": _CALLS,
    "tool_choice": _CALLS,
    "functions": _CALLS,
    "function_call": _CALLS,
    "parallel_tool_calls": _CALLS,
    "echo": "the prompt would be taken for the reply",
    "audio": "a text is expected",
}
_HARMLESS: dict[str, tuple[object, ...]] = {
    "stream": (False, None),
    "n": (1, None),
    "best_of": (1, None),
    "tools": ([], None),
    "tool_choice": ("none", None),
    "functions": ([], None),
    "function_call": ("none", None),
    "echo": (False, None),
    **dict.fromkeys(("stream_options", "parallel_tool_calls", "audio"), (None,)),
}


def _params(params: JsonObject) -> JsonObject:
    for name in params:
        if name in _ELSEWHERE:
            raise ValueError(f"{name}: not among params; {_ELSEWHERE[name]}")
    for place in (params, params.get("extra_body")):
        for name, value in place.items() if isinstance(place, dict) else ():
            if name in _CANNOT and not any(value is harmless or value == harmless for harmless in _HARMLESS[name]):
                raise ValueError(f"{name}: {_CANNOT[name]}; take it out")
    _without_secrets(params, "", False)
    return params


def _without_secrets(value: object, where: str, header: bool) -> None:
    """Raises ValueError, naming the place and never the value, where something is named or looks like a secret."""
    remedy = "secrets come from the environment only; name the variable in api_key_env"
    if isinstance(value, dict):
        for name, inner in value.items():
            at = f"{where}.{name}" if where else str(name)
            plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(name)).replace("-", "_")
            text = inner is not None and not isinstance(inner, bool | int | float)
            if text and (_SECRET.search(plain) or _TOKEN.search(plain) or (header and _HEADER.search(plain))):
                raise ValueError(f"{at}: {remedy}")
            _without_secrets(inner, at, header or "header" in plain.lower())
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _without_secrets(inner, f"{where}.{number}", header)
    elif isinstance(value, str) and (_SPELLED_OUT.match(value) or holds_credentials(value)):
        raise ValueError(f"{where}: this looks like a secret; {remedy}")


Params = Annotated[JsonObject, AfterValidator(_params)]
"""Parameters of a request, without secrets under any name or nesting."""


def optional_params(section: BaseModel, params: JsonObject, mode: JudgeMode = "written") -> frozenset[str]:
    """Of a section of the configuration, the parameters that are there by default only: an agent that refuses them goes without."""
    by_mode = {"response_format"} if mode == "json" else set()
    return frozenset(by_mode if "params" in section.model_fields_set else by_mode | set(params))
