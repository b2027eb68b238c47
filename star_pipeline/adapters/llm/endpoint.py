"""What can be told of an agent's server without a paid request: its list of models, asked for with and without the key."""

import json
import urllib.error
import urllib.request
from types import ModuleType

from star_pipeline.adapters.llm.transport import NO_KEY, key_of
from star_pipeline.config.models import AgentConfig

_NO_SUCH_LIST = (404, 405, 501)


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nobody: the key belongs to the address that it was given for."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def describe_endpoint(litellm: ModuleType, agent: AgentConfig) -> tuple[bool, str]:
    """(Whether all is well as far as can be told, what was found out and what could not be)."""
    key = key_of(litellm, agent)
    key = "" if key in (NO_KEY, "fake-api-key") else key
    status, said = _models(agent, key)
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
    if _models(agent, "")[0] == 200:
        return True, "answers (its list of models is open to all: whether it takes the key, the first reply tells)"
    return True, "answers, and takes the key"


def _models(agent: AgentConfig, key: str) -> tuple[int, list[object] | str]:
    """(HTTP status, the list), or (0, why there is none)."""
    request = urllib.request.Request(f"{str(agent.api_base).rstrip('/')}/models")
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
