"""litellm itself, loaded where somebody needs it: that takes seconds, and 160 MB."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn, ParamSpec

from star_pipeline.adapters.llm.wire import guard
from star_pipeline.core.errors import ConfigError

if TYPE_CHECKING:
    import httpx
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler
    from litellm.llms.openai.common_utils import BaseOpenAILLM

# where litellm's HTTP client sends a request once more, unasked, after some failures of the connection: paid twice perhaps, and counted
# once. The first is its name today, the second that of earlier versions.
_SENDS_AGAIN = ("single_connection_request", "single_connection_post_request")

P = ParamSpec("P")


def load_litellm() -> ModuleType:
    """litellm, set up not to touch the network at import and not to write to the terminal; the offline provider is known.

    Raises ConfigError where this litellm might send a request twice.
    """
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOG", "ERROR")
    import litellm
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler
    from litellm.llms.openai.common_utils import BaseOpenAILLM

    from star_pipeline.adapters.offline.provider import register

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    found = [name for name in _SENDS_AGAIN if hasattr(AsyncHTTPHandler, name)]
    if not found:
        raise ConfigError(
            f"litellm {version('litellm')} has no AsyncHTTPHandler.{' nor '.join(_SENDS_AGAIN)}, one of which is replaced so that no "
            "request is sent twice unasked and paid twice; install a litellm that has it (1.110.2 does), or a newer star-pipeline"
        )
    for name in found:
        setattr(AsyncHTTPHandler, name, _not_again)
    _guard_clients(AsyncHTTPHandler, BaseOpenAILLM)
    register()
    loaded: ModuleType = litellm
    return loaded


def _guard_clients(handler: type[AsyncHTTPHandler], openais: type[BaseOpenAILLM]) -> None:
    """Let ``wire`` look at the replies of every HTTP client that litellm makes, before litellm does."""
    if hasattr(handler, "guarded"):
        return
    if not (hasattr(handler, "create_client") and hasattr(openais, "_get_async_http_client")):
        raise ConfigError(
            f"litellm {version('litellm')} makes its HTTP clients in another place, and their replies have to be looked at so that no "
            "redirect takes a key elsewhere; install a litellm that is known to do (1.106 is), or a newer star-pipeline"
        )
    handler.guarded = True
    # what the calls for files and batches go through
    own = getattr(sys.modules[openais.__module__], "OpenAIAsyncHTTPClient", None)
    if own is not None:
        own.__init__ = _guarding(own.__init__)
    handler.create_client = _guarded(handler.create_client)
    openais._get_async_http_client = staticmethod(_guarded(openais._get_async_http_client))


def _guarding(initialise: Callable[[httpx.AsyncClient], None]) -> Callable[[httpx.AsyncClient], None]:
    def initialised(client: httpx.AsyncClient) -> None:
        initialise(client)
        guard(client)

    return initialised


def _guarded(make: Callable[P, httpx.AsyncClient]) -> Callable[P, httpx.AsyncClient]:
    def made(*given: P.args, **named: P.kwargs) -> httpx.AsyncClient:
        return guard(make(*given, **named))

    return made


async def _not_again(*_: object, **__: object) -> NoReturn:
    raise  # litellm calls this while it handles the failure, which is raised here once more
