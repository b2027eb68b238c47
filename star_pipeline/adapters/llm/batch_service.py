"""A provider's files and batches, through litellm's calls: tried again while that may help, and never created twice."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from star_pipeline.adapters.backoff import wait_s
from star_pipeline.adapters.llm.batch_lines import endpoint
from star_pipeline.adapters.llm.failures import Failure, classify, remedy
from star_pipeline.adapters.llm.library import load_litellm
from star_pipeline.adapters.llm.secrets import NO_KEY, key_of, masker
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.aliases import JsonMapping, JsonObject
from star_pipeline.core.errors import AgentDown
from star_pipeline.core.journal import Batch

MARKER = "star_pipeline"
"""Under this name a batch's metadata tell which of ours it is."""
UNSURE_S = 10.0
"""For so long a request to create a batch, whose answer nobody got, may still be under way."""
FORGOTTEN_S = 48 * 3600.0
"""A batch that its provider does not know after this time is none; the window of all of them is 24 h."""
_ENDED = ("completed", "failed", "expired", "cancelled")
_LONGEST_UPLOAD_S, _GRACE_S, _PATIENCE_S = 600.0, 5.0, 900.0
_A_PAGE, _MOST_PAGES, _A_DAY_S = 100, 50, 86400.0
_NO_SUCH_PATH = (404, 405, 501)


class NotCreated(AgentDown):
    """And the batch certainly does not exist."""


@dataclass(frozen=True)
class State:
    """How far a batch is: its status in the provider's words, and how many of its requests are done, failed, and there at all."""

    status: str
    done: int
    failed: int
    total: int
    files: tuple[str, ...] = ()
    errors: tuple[JsonMapping, ...] = ()
    took_s: float | None = None

    @property
    def ended(self) -> bool:
        return self.status in _ENDED


class BatchService:
    """Of all agents' providers, for one event loop. Raises AgentDown where one is out of reach or has no batches."""

    def __init__(self, agents: Mapping[str, AgentConfig], sleep: Callable[[float], Awaitable[None]]) -> None:
        self._agents, self._sleep = agents, sleep
        self._mask = masker(agents)
        self._litellm = load_litellm()
        self._asking: set[asyncio.Future[Any]] = set()

    async def aclose(self) -> None:
        """Let what was just asked be answered, whoever asked."""
        if self._asking:
            _, late = await asyncio.wait(self._asking, timeout=_GRACE_S)
            for asking in late:
                asking.cancel()

    async def upload(self, name: str, lines: Sequence[bytes]) -> str:
        """The file's name there."""
        file = ("requests.jsonl", b"".join(lines), "application/jsonl")
        told = await self._asked(
            name, "to take a file of requests", self._litellm.acreate_file, file=file, purpose="batch"
        )
        return str(told.id)

    async def create(self, name: str, batch: Batch, file: str) -> str:
        """The batch's name there. Where no answer came, it is looked for before it is asked for again."""
        agent = self._agents[name]
        given = {
            "input_file_id": file, "endpoint": endpoint(agent), "completion_window": "24h", "metadata": {MARKER: batch.marker},
        }  # fmt: skip  # read as a table
        tries = 0
        while True:
            try:
                return str((await self._once(name, self._litellm.acreate_batch, **given)).id)
            except Failure as failure:
                tries += 1
                if not failure.passing or tries >= agent.max_tries:
                    self._give_up(name, "to begin a batch", failure, tries)
                await self._sleep(max(wait_s(tries, failure.retry_after), UNSURE_S if failure.maybe_billed else 0.0))
                if found := await self.find(name, batch, file):
                    return found

    async def find(self, name: str, batch: Batch, file: str) -> str | None:
        """The name of a batch that was created, perhaps, and not written down; None where there is none."""
        after: str | None = None
        for _ in range(_MOST_PAGES):
            page = await self._asked(
                name, "to list its batches", self._litellm.alist_batches, limit=_A_PAGE, after=after
            )
            listed = [_plain(one) for one in _plain(page).get("data") or []]
            for one in listed:
                if (one.get("metadata") or {}).get(MARKER) == batch.marker or one.get("input_file_id") == file:
                    return str(one["id"])
            last = str(listed[-1].get("id")) if listed else after
            older = bool(listed) and (listed[-1].get("created_at") or batch.at) < batch.at - _A_DAY_S
            if last == after or older or not _plain(page).get("has_more"):
                return None
            after = last
        return None

    async def look(self, name: str, batch: Batch) -> State | None:
        """How far the batch is; None where the provider does not know it, and never will."""
        quiet = {"batch_ignore_default_logging": True}  # litellm fetched the replies as well, to count what they cost
        try:
            told = await self._asked(
                name, f"how far batch {batch.remote} is", self._litellm.aretrieve_batch, ("not_found",),
                batch_id=batch.remote, litellm_metadata=quiet,
            )  # fmt: skip  # what is asked, and with what
        except Failure as failure:
            if time.time() - batch.at > FORGOTTEN_S:
                return None
            sent = time.strftime("%Y-%m-%d %H:%M", time.localtime(batch.at))
            raise AgentDown(
                f"agent {name}: its server does not know batch {batch.remote}, which was sent at {sent} ({failure}); run with the key and "
                f"api_base that sent it, or wait: {FORGOTTEN_S / 3600:.0f} h after it was sent, what it held is sent anew"
            ) from None
        said = _plain(told)
        counts = said.get("request_counts") or {}
        began, ended = said.get("created_at"), next((at for which in _ENDED if (at := said.get(f"{which}_at"))), None)
        return State(
            str(said.get("status")),
            int(counts.get("completed") or 0),
            int(counts.get("failed") or 0),
            int(counts.get("total") or 0),
            files=tuple(str(said[which]) for which in ("output_file_id", "error_file_id") if said.get(which)),
            errors=tuple(_plain(one) for one in _plain(said.get("errors") or {}).get("data") or []),
            took_s=float(ended - began) if isinstance(began, int) and isinstance(ended, int) else None,
        )

    async def content(self, name: str, file: str) -> bytes:
        """Of a file with replies or errors; nothing where the provider does not have it any more."""
        try:
            told = await self._asked(name, "for the replies", self._litellm.afile_content, ("not_found",), file_id=file)
        except Failure:
            return b""
        return bytes(told.content)

    async def _asked(
        self, name: str, what: str, call: Callable[..., Any], told_of: tuple[str, ...] = (), **given: object
    ) -> Any:
        """Asks for what may be asked twice. Raises Failure for the kinds ``told_of``, AgentDown for all others."""
        agent, tries, began = self._agents[name], 0, time.monotonic()
        # whoever has waited for hours goes on for some minutes
        patience_s = max(agent.patience_s, _PATIENCE_S) if told_of else agent.patience_s
        while True:
            try:
                return await self._once(name, call, **given)
            except Failure as failure:
                tries += 1
                if failure.kind in told_of:
                    raise
                if not failure.passing or (tries >= agent.max_tries and time.monotonic() - began >= patience_s):
                    self._give_up(name, what, failure, tries)
                await self._sleep(wait_s(tries, failure.retry_after))

    async def _once(self, name: str, call: Callable[..., Any], **given: object) -> Any:
        """What litellm's object is, is its own affair. Raises Failure."""
        agent = self._agents[name]
        provider = "azure" if agent.model.startswith("azure/") else "openai"
        fixed: JsonObject = {"custom_llm_provider": provider, "max_retries": 0, "num_retries": 0}
        fixed["timeout"] = max(agent.timeout_s, _LONGEST_UPLOAD_S)
        fixed |= {key: agent.params[key] for key in ("extra_headers", "api_version") if key in agent.params}
        if agent.api_base:
            fixed["api_base"] = agent.api_base
        if key := key_of(agent) or (NO_KEY if agent.api_base else ""):
            fixed["api_key"] = key
        asking = asyncio.ensure_future(asyncio.wait_for(call(**fixed, **given), fixed["timeout"]))
        self._asking.add(asking)
        asking.add_done_callback(self._forget)
        try:
            # cancelled half-way, litellm would leave a coroutine behind that nobody awaits
            return await asyncio.shield(asking)
        except Exception as error:
            failure = classify(error, agent, self._mask)
            if getattr(error, "status_code", None) in _NO_SUCH_PATH:
                failure = Failure("not_found", str(failure), False, maybe_billed=False)
            raise failure from None

    def _forget(self, asking: "asyncio.Future[Any]") -> None:
        self._asking.discard(asking)
        if not asking.cancelled():
            asking.exception()  # seen: who asked may be gone

    def _give_up(self, name: str, what: str, failure: Failure, tries: int) -> NoReturn:
        agent = self._agents[name]
        down = AgentDown if failure.passing and failure.maybe_billed else NotCreated
        if failure.kind == "not_found":
            raise down(
                f"agent {name}: its server has no batches, or none at this address: it was asked {what}: {failure}; set "
                f"agents.{name}.mode: live, then run again: what was answered stays"
            ) from None
        raise down(
            f"agent {name}: its server was asked {what}; {tries} {'try' if tries == 1 else 'tries'} failed ({failure.kind}): {failure}; "
            f"{remedy(failure.kind, agent)}, then run again: what was answered stays, and a batch that was sent is waited for"
        ) from None


def _plain(said: object) -> JsonMapping:
    """litellm's and OpenAI's objects as what the server's JSON had."""
    if isinstance(said, Mapping):
        return said
    dump = getattr(said, "model_dump", None)
    plain = dump() if dump else {}
    return plain if isinstance(plain, Mapping) else {}
