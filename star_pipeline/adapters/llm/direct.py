"""The short way to a server that speaks OpenAI's chat API: one HTTP request, without litellm, which takes six times the work.

Body, key, errors and what is taken of a reply are those that litellm would give; the tests hold the two against each other.
"""

import asyncio
import json
import os
import ssl
import time
from collections.abc import Mapping
from urllib.parse import urljoin

import aiohttp

from star_pipeline.adapters.llm.answers import Answer, answer_of
from star_pipeline.adapters.llm.failures import Failure, of_status
from star_pipeline.adapters.llm.request_forms import RequestForm
from star_pipeline.adapters.llm.secrets import key_masker, key_of, masker
from star_pipeline.adapters.llm.wire import MOST_BYTES, completion_of, error_code, require_one_origin
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.ports import ChatRequest

_NOT_IN_BODY = ("extra_body", "extra_headers", "drop_params", "allowed_openai_params", "additional_drop_params")
_MOST_REDIRECTS, _MOST_OF_AN_ERROR = 5, 8192


class DirectTransport:
    """The servers of some agents, for one event loop. Connections stay open until ``aclose``."""

    def __init__(self, agents: Mapping[str, AgentConfig]) -> None:
        self.agents = agents
        self._mask, self._mask_key = masker(agents), key_masker(agents)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: ChatRequest, form: RequestForm = RequestForm()) -> Answer:
        """Raises Failure."""
        agent = self.agents[request.agent]
        body = body_of(request, form, agent)
        extra = form.params(request, agent).get("extra_headers") or {}
        headers = {"Content-Type": "application/json", **extra}
        if key := key_of(agent):
            headers["Authorization"] = f"Bearer {key}"
        began = time.monotonic()
        try:
            async with asyncio.timeout(agent.timeout_s):
                status, told, content = await self._post(
                    f"{str(agent.api_base).rstrip('/')}/chat/completions",
                    json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"),
                    headers,
                )
        except Failure as failure:
            raise Failure(
                failure.kind,
                f"{agent.model}: {self._mask(str(failure))}",
                failure.passing,
                maybe_billed=failure.maybe_billed,
            ) from None
        except (TimeoutError, aiohttp.ServerTimeoutError):
            raise Failure("timeout", f"{agent.model}: no reply within {agent.timeout_s:g} s", True) from None
        except (aiohttp.ClientConnectorError, aiohttp.ClientConnectorDNSError):
            raise Failure(
                "connection", f"{agent.model}: nobody answers at {agent.api_base}", True, maybe_billed=False
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            said = self._mask(f"{type(error).__name__}: {error}")
            raise Failure("connection", f"{agent.model}: {said}", True) from None
        if status == 200:
            status = error_code(content) or status
        if status != 200:
            raise of_status(status, told, content.decode("utf-8", "replace"), agent, self._mask)
        try:
            completion = completion_of(content)
        except Failure as failure:
            raise Failure(failure.kind, f"{agent.model}: {failure}", failure.passing) from None
        return answer_of(completion, request, agent, self._mask_key, time.monotonic() - began)

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        """(status, headers, body). Sent on only within one origin: the key belongs to the address that it was given for."""
        for _ in range(_MOST_REDIRECTS):
            async with self._open().post(url, data=body, headers=headers, allow_redirects=False) as response:
                location = response.headers.get("Location", "") if 300 <= response.status < 400 else ""
                if not location:
                    whole = response.status == 200
                    content = await (_bounded(response) if whole else response.content.read(_MOST_OF_AN_ERROR))
                    return response.status, response.headers, content
                asked, url = url, urljoin(url, location)
                require_one_origin(asked, url)
                if response.status not in (307, 308):
                    return response.status, response.headers, b""
        raise Failure("redirected", f"{url} sends on again and again", False, maybe_billed=False)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=_certificates()),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=True,
            )
        return self._session

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


def body_of(request: ChatRequest, form: RequestForm, agent: AgentConfig) -> JsonObject:
    """What a server that speaks OpenAI's chat API is sent."""
    params = form.params(request, agent)
    body: JsonObject = {"model": agent.model.partition("/")[2], "messages": form.messages(request)}
    body |= {name: value for name, value in params.items() if name not in _NOT_IN_BODY}
    body |= params.get("extra_body") or {}
    return body


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """The body, as far as anybody can want it."""
    parts, size = [], 0
    async for part in response.content.iter_chunked(2**16):
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise Failure("malformed_reply", f"the reply has more than {MOST_BYTES:,} bytes", True)
    return b"".join(parts)


def _certificates() -> ssl.SSLContext:
    """Those that litellm's client trusts: SSL_CERT_FILE's, else certifi's."""
    import certifi

    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())
