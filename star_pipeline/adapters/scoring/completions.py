"""A completions server asked how probable a prompt's own tokens are. Prompts go out as token ids: nothing is tokenised anew.

Servers tell it in two ways, and the first request finds out which: vLLM's ``prompt_logprobs``, or ``echo`` with ``logprobs``
(SGLang, vLLM before 0.5.5). Both let the server make one token, which is cut off: some refuse ``max_tokens: 0``, and some take it
for no limit.
"""

import asyncio
import json
import math
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import aiohttp

from star_pipeline.adapters.backoff import retry_after_s, wait_s
from star_pipeline.adapters.llm.failures import TOO_LONG
from star_pipeline.config.scoring import ServedModel
from star_pipeline.core.aliases import JsonMapping
from star_pipeline.core.errors import ConfigError, ModelError, in_short

_PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}
_VLLM_MINUS_INFINITY = -9999.0
"""What vLLM sends in place of -inf, for which JSON has no word."""


class _Failure(Exception):
    """One try failed. ``refused``: the server does not take the request as it is; ``retry_after``: its wish in seconds."""

    def __init__(self, message: str, passing: bool, refused: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.passing, self.refused, self.retry_after = passing, refused, retry_after


class _NotTaken(Exception):
    """The answer is about other tokens than those that were sent."""


@dataclass(frozen=True)
class Dialect:
    """A way to ask for a prompt's log-probabilities. ``read`` gives those of all tokens but the first; None where there are none."""

    name: str
    fields: JsonMapping
    read: Callable[[JsonMapping, Sequence[int]], list[float] | None]


def _read_prompt_logprobs(choice: JsonMapping, ids: Sequence[int]) -> list[float] | None:
    entries = choice.get("prompt_logprobs")
    if entries is None:
        return None
    if len(entries) != len(ids):
        raise _NotTaken(f"{len(ids)} token ids came back as {len(entries)}")
    values = []
    for place, (token, entry) in enumerate(zip(ids[1:], entries[1:], strict=True), start=1):
        if str(token) not in entry:
            raise _NotTaken(f"token {place} is {token}, and came back as {', '.join(entry) or 'nothing'}")
        values.append(_number(entry[str(token)]["logprob"]))
    return values


def _read_echo(choice: JsonMapping, ids: Sequence[int]) -> list[float] | None:
    entries = (choice.get("logprobs") or {}).get("token_logprobs")
    if entries is None or len(entries) < 2:
        return None
    # what the server made of its own comes after the prompt; the first token has no probability, for nothing is before it
    if len(entries) not in (len(ids), len(ids) + 1) or entries[0] is not None:
        first = "nothing" if entries[0] is None else "a number"
        raise _NotTaken(f"{len(ids)} token ids came back as {len(entries)} log-probabilities, {first} for the first")
    return [_number(value) for value in entries[1 : len(ids)]]


def _number(value: float | None) -> float:
    """-inf and NaN come as null, or as vLLM's stand-in: a response with such a token cannot be scored."""
    return -math.inf if value is None or value <= _VLLM_MINUS_INFINITY else float(value)


DIALECTS = (
    Dialect("prompt_logprobs", {"prompt_logprobs": 0, "max_tokens": 1, "temperature": 0}, _read_prompt_logprobs),
    Dialect("echo with logprobs", {"echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0}, _read_echo),
)


class CompletionsServer:
    """One model on one server. Raises ConfigError where its key is not set.

    Each ``ask`` opens its own connections, so that it may run in any event loop; the dialect is kept.
    """

    def __init__(self, served: ServedModel, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._served, self._sleep = served, sleep
        self._key = _key(served)
        self._dialect: Dialect | None = None

    @property
    def dialect(self) -> str | None:
        """How the server is asked; None before its first answer."""
        return self._dialect.name if self._dialect else None

    async def ask(self, prompts: Sequence[Sequence[int]], done: Callable[[int, list[float]], None]) -> None:
        """Calls ``done(number, log-probabilities of prompts[number][1:])``, in nats, as the answers arrive.

        A prompt has at least two tokens. What may pass is tried again; raises ModelError once a request has failed for good.
        """
        order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
        async with self._session() as session:
            if order and self._dialect is None:
                # the shortest, so that only what the server knows decides, and not its limit
                first = order.pop(0)
                done(first, await self._find_dialect(session, prompts[first]))
            await self._ask_all(session, prompts, reversed(order), done)

    async def limit(self) -> int | None:
        """Tokens of prompt and answer together that the server takes; None where it does not say (vLLM does)."""
        limit = (await self.told() or {}).get("max_model_len")
        return limit if isinstance(limit, int) else None

    async def told(self) -> JsonMapping | None:
        """The model's entry in the server's list, empty where there is none; None where the server did not answer."""
        try:
            async with (
                self._session() as session,
                session.get(f"{self._served.api_base}/models", allow_redirects=False) as answer,
            ):
                listed = json.loads(await answer.read())["data"]
            return next((entry for entry in listed if entry.get("id") == self._served.model), {})
        except (aiohttp.ClientError, OSError):
            return None
        except (ValueError, LookupError, TypeError, AttributeError):
            return {}

    async def _ask_all(
        self,
        session: aiohttp.ClientSession,
        prompts: Sequence[Sequence[int]],
        order: Iterator[int],
        done: Callable[[int, list[float]], None],
    ) -> None:
        async def work() -> None:
            for number in order:
                done(number, await self._values(session, prompts[number]))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._served.max_concurrency, len(prompts))):
                    group.create_task(work())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _find_dialect(self, session: aiohttp.ClientSession, ids: Sequence[int]) -> list[float]:
        reasons = []
        for dialect in DIALECTS:
            try:
                values = await self._request(session, dialect, ids)
            except _Failure as failure:
                if not failure.refused:
                    raise ModelError(str(failure)) from failure
                reasons.append(f"{dialect.name}: {failure}")
                continue
            if values and any(math.isfinite(value) for value in values):
                self._dialect = dialect
                return values
            reasons.append(f"{dialect.name}: answered without them")
        raise ModelError(
            f"scoring model {self._served}: the server does not tell log-probabilities of a prompt ({'; '.join(reasons)}); "
            "serve the model with vLLM or SGLang, or give its Hugging Face id to load it here"
        )

    async def _values(self, session: aiohttp.ClientSession, ids: Sequence[int]) -> list[float]:
        assert self._dialect
        try:
            values = await self._request(session, self._dialect, ids)
        except _Failure as failure:
            raise ModelError(str(failure)) from failure
        if values is None:
            raise ModelError(
                f"scoring model {self._served}: an answer of the server is without log-probabilities, and an earlier one had them "
                f"({self._dialect.name}); look for several servers of different versions behind this address"
            )
        return values

    async def _request(
        self, session: aiohttp.ClientSession, dialect: Dialect, ids: Sequence[int]
    ) -> list[float] | None:
        """Send, again if the failure may pass, at most ``max_tries`` times; raises the last _Failure."""
        asked = {"model": self._served.model, "prompt": list(ids), **dialect.fields}
        for tries in range(1, self._served.max_tries + 1):
            try:
                answer: JsonMapping = await self._once(session, asked)
                break
            except _Failure as failure:
                if not failure.passing or tries == self._served.max_tries:
                    raise
                await self._sleep(wait_s(tries, failure.retry_after))
        try:
            told = (answer.get("usage") or {}).get("prompt_tokens")
            if told is not None and told != len(ids):
                raise _NotTaken(f"{len(ids)} token ids came back as {told}")
            return dialect.read(answer["choices"][0], ids)
        except _NotTaken as error:
            raise ModelError(
                f"scoring model {self._served}: the server does not take prompts as they are: {error}; serve the model with vLLM or "
                "SGLang, which tokenise nothing anew and add no token, and see that its tokenizer is the one given here"
            ) from error
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                f"scoring model {self._served}: the answer cannot be read ({type(error).__name__}: {in_short(error)}); expected "
                f"what OpenAI's completions give ({dialect.name})"
            ) from error

    async def _once(self, session: aiohttp.ClientSession, request: JsonMapping) -> JsonMapping:
        where = f"{self._served.api_base}/completions"
        try:
            async with session.post(where, json=request, allow_redirects=False) as answer:
                body = await answer.read()
        except TimeoutError as error:
            raise _Failure(
                f"scoring model {self._served}: no answer within {self._served.timeout_s:g} s; raise timeout_s, or lower max_concurrency",
                True,
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            refused = isinstance(getattr(error, "os_error", None), ConnectionRefusedError)
            reason = "nobody answers" if refused else f"the connection failed ({in_short(error)})"
            raise _Failure(
                f"scoring model {self._served}: {reason}; start the server or correct api_base", True
            ) from error
        if answer.status != 200:
            raise self._refusal(answer.status, body, answer.headers, len(request["prompt"]))
        try:
            said: JsonMapping = json.loads(body)
            return said
        except ValueError as error:
            raise _Failure(
                f"scoring model {self._served}: the answer is no JSON ({in_short(error)}); correct api_base, it mostly ends in /v1",
                True,
            ) from error

    def _refusal(self, status: int, body: bytes, headers: Mapping[str, str], tokens: int) -> _Failure:
        text = self._said(body)
        said = f"HTTP {status}: {text}" if text else f"HTTP {status}"
        who = f"scoring model {self._served}"
        if status in (401, 403):
            variable = self._served.api_key_env
            remedy = (
                f"put a valid one into {variable}" if variable else "name the variable that holds it in api_key_env"
            )
            return _Failure(f"{who}: the server rejects the key ({said}); {remedy}", False)
        if status == 404:
            return _Failure(
                f"{who}: not there ({said}); correct the model's name or api_base, which mostly ends in /v1", False
            )
        if status in _PASSING:
            wish = retry_after_s(headers.get("Retry-After"))
            remedy = "look at the server's log, or lower max_concurrency"
            return _Failure(f"{who}: {said}, {self._served.max_tries} times; {remedy}", True, status == 500, wish)
        if status == 413 or TOO_LONG.search(text):
            remedy = "lower scoring.max_length, or raise the server's limit (vLLM: --max-model-len)"
            return _Failure(f"{who}: {tokens:,} tokens are too long for the server ({said}); {remedy}", False)
        return _Failure(f"{who}: the server refuses the request ({said}); look at its log", False, refused=True)

    def _said(self, body: bytes) -> str:
        """The server's own words, without the key, which some servers quote."""
        text = body.decode("utf-8", "replace")
        try:
            told = json.loads(text)
        except ValueError:
            told = text
        if isinstance(told, dict):
            told = told.get("error") or told.get("detail") or told.get("message") or told
        if isinstance(told, dict):
            told = told.get("message") or told
        words = str(told)
        return in_short(Exception(words.replace(self._key, "[key]") if self._key else words))

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=aiohttp.ClientTimeout(total=self._served.timeout_s),
            connector=aiohttp.TCPConnector(limit=self._served.max_concurrency),
            trust_env=True,
        )


def _key(served: ServedModel) -> str:
    if not served.api_key_env:
        return ""
    key = os.environ.get(served.api_key_env, "").strip()
    if not key:
        raise ConfigError(
            f"scoring model {served}: {served.api_key_env} is not set in the environment; export it with the key"
        )
    return key
