"""Which way an agent's requests go: directly to a server that speaks OpenAI's chat API, or through litellm."""

from collections.abc import Mapping

from star_pipeline.adapters.llm.answers import Answer
from star_pipeline.adapters.llm.direct import DirectTransport
from star_pipeline.adapters.llm.request_forms import RequestForm
from star_pipeline.adapters.llm.secrets import require_keys
from star_pipeline.adapters.llm.transport import Transport
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.ports import ChatRequest


class Senders:
    """The agents' servers, for one event loop. litellm is loaded only where one of them needs it.

    Raises ConfigError where a key is not set.
    """

    def __init__(self, agents: Mapping[str, AgentConfig]) -> None:
        require_keys(agents)
        through = {name: agent for name, agent in agents.items() if not agent.goes_directly}
        self._direct = DirectTransport({name: agent for name, agent in agents.items() if agent.goes_directly})
        self._litellm = Transport(through) if through else None

    async def send(self, request: ChatRequest, form: RequestForm = RequestForm()) -> Answer:
        """Raises Failure."""
        if self._litellm is None or request.agent in self._direct.agents:
            return await self._direct.send(request, form)
        return await self._litellm.send(request, form)

    async def aclose(self) -> None:
        await self._direct.aclose()
