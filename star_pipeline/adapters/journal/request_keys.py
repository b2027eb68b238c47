"""What names a request in the journal."""

import hashlib
import json

from star_pipeline.config.models import AgentConfig
from star_pipeline.core.ports import ChatRequest


def request_key(request: ChatRequest, agent: AgentConfig) -> bytes:
    """Names a request by all that decides its reply: model, endpoint, messages, parameters, template and its version, sample.

    The agent's name, limits and key do not: they change nothing.
    """
    whole = [
        agent.model,
        agent.api_base,
        [(message.role, message.content) for message in request.messages],
        {**agent.params, **request.params},
        request.template,
        request.template_version,
        request.sample,
    ]
    text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"), sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:20]
