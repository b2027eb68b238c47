"""What can be told of an agent's server without a paid request: whether it is ready, its list of models, how much it does at once."""

import json
import re
import urllib.error
import urllib.request

from star_pipeline.adapters.llm.secrets import NO_KEY, key_of
from star_pipeline.config.models import AgentConfig

_NO_SUCH_LIST = (404, 405, 501)
_WAITING = re.compile(r"^(?:vllm:num_requests_waiting|sglang:num_queue_reqs)(?:\{[^}]*\})? ([\d.e+]+)$", re.MULTILINE)
"""How vLLM and SGLang tell, under /metrics, how many requests wait in their queue."""


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nobody: the key belongs to the address that it was given for."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def describe_endpoint(agent: AgentConfig) -> tuple[bool, str]:
    """(Whether all is well as far as can be told, what was found out and what could not be)."""
    if _get(agent, "/health")[0] == 503:
        return (
            False,
            "it is still loading its model, or not ready (HTTP 503 at /health); wait until it is, then ask again",
        )
    well, found = _of_its_list(agent)
    if well and agent.mode == "batch" and (status := _listed(agent, _key(agent), "batches")[0]) in _NO_SUCH_LIST:
        return False, f"has no batches (HTTP {status} at /batches); set mode: live"
    return well, found + (_queue(agent) if well else "")


def _key(agent: AgentConfig) -> str:
    key = key_of(agent)
    return "" if key in (NO_KEY, "fake-api-key") else key


def _of_its_list(agent: AgentConfig) -> tuple[bool, str]:
    key = _key(agent)
    status, said = _listed(agent, key)
    if isinstance(said, str):
        return False, said
    if status in (401, 403):
        if agent.api_key_env:
            return False, f"rejects the key (HTTP {status}); put a valid one into {agent.api_key_env}"
        sent = "it rejects the provider's usual one" if key else "api_key_env is not set, so none is sent"
        return False, f"wants a key (HTTP {status}), and {sent}; name in api_key_env the variable that holds it"
    if status in _NO_SUCH_LIST:
        return (
            True,
            f"answers, without a list of models (HTTP {status}): neither the key nor the model's name could be checked",
        )
    if status != 200:
        return False, f"HTTP {status}; look at the server's log"
    names = [str(entry.get("id")) for entry in said if isinstance(entry, dict)]
    wanted = agent.model.split("/", 1)[-1]
    if agent.model.startswith("hosted_vllm/") and names and wanted not in names:
        return False, f"serves {', '.join(names[:5])}, not {wanted}; correct the model's name"
    if not key:
        return True, "answers without a key (if it wants one for its replies alone, the first of them tells)"
    if _listed(agent, "")[0] == 200:
        return True, "answers (its list of models is open to all: whether it takes the key, the first reply tells)"
    return True, "answers, and takes the key"


def _listed(agent: AgentConfig, key: str, what: str = "models") -> tuple[int, list[object] | str]:
    """(HTTP status, the list), or (0, why there is none)."""
    request = urllib.request.Request(f"{str(agent.api_base).rstrip('/')}/{what}")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=10) as response:
            said = json.loads(response.read(16 * 2**20))
        listed = said.get("data") if isinstance(said, dict) else None
        return 200, listed if isinstance(listed, list) else []
    except urllib.error.HTTPError as error:
        if 300 <= error.code < 400:
            other = error.headers.get("Location", "another address")
            return 0, f"sends on to {other}, where no key is taken; write the address that answers itself in api_base"
        return error.code, []
    except RecursionError:
        return 0, "its list of models is nested too deeply to be read; look at the server's log"
    except (OSError, ValueError) as error:
        return 0, f"no answer ({getattr(error, 'reason', error)}); start the server or correct api_base"


def _queue(agent: AgentConfig) -> str:
    """What a server tells of its slots (llama.cpp) or its queue (vLLM, SGLang); empty where it tells nothing that matters."""
    _, props = _get(agent, "/props")
    try:
        slots = json.loads(props).get("total_slots")
    except (ValueError, AttributeError, RecursionError):
        slots = None
    if isinstance(slots, int) and 0 < slots < agent.max_concurrency:
        return (
            f"; it works on {slots} at once, and max_concurrency is {agent.max_concurrency}: the others wait in its queue, where "
            f"timeout_s ({agent.timeout_s:g}) runs; set max_concurrency: {slots}, or start it with more slots"
        )
    waiting = sum(float(count) for count in _WAITING.findall(_get(agent, "/metrics")[1]))
    if waiting:
        return f"; {waiting:,.0f} requests wait in its queue now: it is slow by that, and timeout_s ({agent.timeout_s:g}) runs there"
    return ""


def _get(agent: AgentConfig, path: str) -> tuple[int, str]:
    """(HTTP status, text) of a page beside ``/v1``, asked for without the key; (0, "") where there is none."""
    root = re.sub(r"/v\d+/?$", "", str(agent.api_base).rstrip("/"))
    try:
        with urllib.request.build_opener(_Stay).open(f"{root}{path}", timeout=5) as response:
            return 200, response.read(2**20).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, ""
    except (OSError, ValueError):
        return 0, ""
