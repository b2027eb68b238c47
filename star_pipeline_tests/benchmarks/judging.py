"""How good is a judge? A model behind an OpenAI-compatible server judges recorded pairs whose better answer is known.

    python -m star_pipeline_tests.benchmarks.judging --tape recorded.jsonl --api-base http://127.0.0.1:8000/v1 --model NAME
        [--mode written|json|logprobs] [--pairs 40] [--max-tokens 300] [--folder FOLDER]

A line of the tape holds ``instruction``, ``reference`` and ``answers`` (name -> {output, win}), ``win`` the probability with which the
recorded judge preferred the answer to the reference. Pairs are those whose log-odds differ by at least ``--least-odds``; one an
instruction, drawn with ``--seed``. Each is judged as the pipeline does it, in both orders; every figure comes with its 95% interval,
and with what "the longer one is better" would have got on the same pairs. ``--folder`` keeps the journal, so that a run that was
stopped goes on.
"""

import argparse
import asyncio
import contextlib
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_pipeline.adapters.journal.sqlite.journal import SqliteJournal
from star_pipeline.adapters.llm.chat import AgentChat
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.config.models import AgentConfig
from star_pipeline.core.equations.judging import Judge, JudgeRules
from star_pipeline.core.equations.prompts import PromptLibrary
from star_pipeline.core.intervals import Estimate, mean, share
from star_pipeline.core.ports import ChatReply, ChatRequest
from star_pipeline.core.records import Candidate, IfdScore, JudgeVerdict, Seed

_GAIN = {"better": 1.0, "worse": -1.0}


@dataclass(frozen=True)
class KnownPair:
    """Two answers to one instruction; ``odds`` is by how much the recorded judge preferred the candidate, in log-odds."""

    instruction: str
    candidate: str
    reference: str
    odds: float

    @property
    def longer(self) -> float:
        """1 where the candidate is longer, -1 where the reference is."""
        return float((len(self.candidate) > len(self.reference)) - (len(self.candidate) < len(self.reference)))


def known_pairs(tape: Path, count: int, least_odds: float, longest: int, seed: int) -> list[KnownPair]:
    """``count`` pairs from as many instructions, which of the two is the better one left to chance."""
    draw, found = random.Random(seed), []
    for line in tape.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        answers = [(0.0, row["reference"])] + [(_log_odds(a["win"]), a["output"]) for a in row["answers"].values()]
        answers = [(odds, text) for odds, text in answers if 0 < len(text.strip()) <= longest]
        pairs = [(a, b) for n, a in enumerate(answers) for b in answers[n + 1 :] if abs(a[0] - b[0]) >= least_odds]
        if pairs and len(row["instruction"]) <= longest:
            one, other = draw.sample(draw.choice(pairs), 2)
            found.append(KnownPair(row["instruction"], one[1], other[1], one[0] - other[0]))
    draw.shuffle(found)
    return found[:count]


def _log_odds(win: float) -> float:
    win = min(max(win, 1e-7), 1 - 1e-7)
    return math.log(win / (1 - win))


class Timed:
    """A chat model that notes how long each reply took, as it was paid for."""

    def __init__(self, chat: AgentChat) -> None:
        self._chat, self.seconds = chat, dict[str, float]()

    async def complete(self, request: ChatRequest) -> ChatReply:
        reply = await self._chat.complete(request)
        self.seconds[request.purpose] = reply.latency_s
        return reply

    async def aclose(self) -> None:
        await self._chat.aclose()


async def judged(
    pairs: Sequence[KnownPair], agent: AgentConfig, rules: JudgeRules, folder: Path
) -> tuple[list[JudgeVerdict], float]:
    """(a verdict for each pair, seconds of the server's time in all)."""
    seeds = [Seed(f"s{n:04d}", "f", n, None, (), pair.instruction, pair.reference) for n, pair in enumerate(pairs)]
    candidates = []
    for seed, pair in zip(seeds, pairs, strict=True):
        for slot, text in enumerate((pair.reference, pair.candidate)):
            candidates.append(_candidate(seed, slot, text))
    scores = [IfdScore(row.candidate_id, row.seed_id, "ok", False, gap=1.0) for row in candidates]
    chat = Timed(AgentChat({"judge": agent}, SqliteJournal(folder, "lake"), tell=print))
    async with contextlib.aclosing(chat):
        rows = await Judge(chat, PromptLibrary({}), rules).verdicts(candidates, seeds, scores, SilentProgress())
    return rows, sum(chat.seconds.values())


def _candidate(seed: Seed, slot: int, text: str) -> Candidate:
    return Candidate(
        f"{seed.seed_id}-{slot}",
        seed.seed_id,
        slot,
        f"keep+{'ab'[slot]}",
        seed.instruction,
        text,
        "ok",
        None,
        None,
        1,
        1,
        1,
        0.0,
        0.0,
    )


def figures(pairs: Sequence[KnownPair], rows: Sequence[JudgeVerdict]) -> list[tuple[str, Estimate | None]]:
    """What the judge is worth. Right: 1 where its verdict is the recorded one, 0.5 where it did not decide (tie, reversed, none)."""
    both = list(zip(pairs, rows, strict=True))
    said = [_GAIN.get(row.verdict, 0.0) for row in rows]
    right = [(1 + math.copysign(1, pair.odds) * gain) / 2 for pair, gain in zip(pairs, said, strict=True)]
    by_length = [(1 + math.copysign(1, pair.odds) * pair.longer) / 2 for pair in pairs]
    decided = [(pair, gain) for pair, gain in zip(pairs, said, strict=True) if gain]
    first = [_GAIN[row.verdict_first] for row in rows if row.verdict_first in _GAIN]
    second = [-_GAIN[row.verdict_swapped] for row in rows if row.verdict_swapped in _GAIN]
    heard = [row for row in rows if row.verdict not in ("unparsed", "failed")]
    alone = [
        (1 + math.copysign(1, pair.odds) * _GAIN.get(word or "", 0.0)) / 2
        for pair, row in both
        for word in (row.verdict_first, row.verdict_swapped)
    ]
    return [
        ("right", mean(right)),
        ("the longer one is better: right", mean(by_length)),
        ("right less that", mean([a - b for a, b in zip(right, by_length, strict=True)])),
        ("decided", share(len(decided), len(rows))),
        ("right of those decided", share(sum(pair.odds * gain > 0 for pair, gain in decided), len(decided))),
        ("right in one order alone", mean(alone)),
        ("reversed with the order", share(sum(row.flipped for row in heard), len(heard))),
        ("no verdict", share(len(rows) - len(heard), len(rows))),
        ("for the one shown first", share(sum(gain > 0 for gain in first + second), len(first + second))),
        ("for the longer one", share(sum(pair.longer * gain > 0 for pair, gain in decided), len(decided))),
        ("the longer one, as recorded", share(sum(pair.longer * pair.odds > 0 for pair in pairs), len(pairs))),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tape", type=Path, required=True)
    options.add_argument("--api-base", required=True)
    options.add_argument("--model", required=True)
    options.add_argument("--mode", default="written", choices=("written", "json", "logprobs"))
    options.add_argument("--pairs", type=int, default=40)
    options.add_argument("--least-odds", type=float, default=4.0)
    options.add_argument("--longest", type=int, default=700, help="characters of an answer or an instruction, at most")
    options.add_argument("--max-tokens", type=int, default=300)
    options.add_argument("--attempts", type=int, default=1)
    options.add_argument("--concurrency", type=int, default=1, help="1: the seconds are those of a verdict alone")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--folder", type=Path)
    options.add_argument("--rows", type=Path, help="where the verdicts go, a JSON line each")
    given = options.parse_args(arguments)
    if not given.tape.exists():
        print(f"no tape at {given.tape}; expected JSON lines with instruction, reference and answers", file=sys.stderr)
        return 2
    pairs = known_pairs(given.tape, given.pairs, given.least_odds, given.longest, given.seed)
    agent = AgentConfig(
        model=f"hosted_vllm/{given.model}",
        api_base=given.api_base,
        max_concurrency=given.concurrency,
        timeout_s=600,
        params={"max_tokens": given.max_tokens},
    )
    mode: dict[str, Any] = {} if given.mode == "written" else {"mode": given.mode}
    rules = JudgeRules("judge", given.attempts, "tie", False, {"temperature": 0.0}, **mode)
    with tempfile.TemporaryDirectory() as own:
        began = time.monotonic()
        rows, seconds = asyncio.run(judged(pairs, agent, rules, given.folder or Path(own)))
    n = len(rows)
    print(
        f"{given.model}, {given.mode}: {n} pairs, log-odds at least {given.least_odds:g} apart, {time.monotonic() - began:.0f} s"
    )
    for name, found in figures(pairs, rows):
        print(
            f"  {name:34}",
            f"{found.figure:6.2f}  ({found.low:.2f} to {found.high:.2f}, n {found.n})" if found else "  none",
        )
    told = [(row.prompt_tokens / n, row.completion_tokens / n) for row in rows]
    print(
        f"  a verdict: {sum(a for a, _ in told):.0f} tokens sent, {sum(b for _, b in told):.0f} received, {seconds / n:.1f} s"
    )
    if given.rows:
        kept = [
            {"odds": pair.odds, "longer": pair.longer, **{name: getattr(row, name) for name in row.__slots__}}
            for pair, row in zip(pairs, rows, strict=True)
        ]
        given.rows.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
