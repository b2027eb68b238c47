"""A server on loopback that plays recorded answers back under their LLMs' names, and GPT-4's recorded preferences as ``gpt4-judge``."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from star_pipeline_tests.benchmarks.evidence.recorded import JUDGE, MARGIN, log_odds
from star_pipeline_tests.llm_server import Reply, chat_server


@contextmanager
def played(tape: Path) -> Iterator[str]:
    """The address of the server while it is open."""
    rows = [json.loads(line) for line in tape.read_text("utf-8").splitlines()]
    rows.sort(key=lambda row: -len(row["instruction"]))  # one may stand inside another

    def script(asked: dict[str, Any]) -> Reply | str:
        text = str(asked["messages"][-1]["content"])
        row = next((row for row in rows if row["instruction"].strip() in text), None)
        if row is None:
            return Reply(status=404)
        if asked["model"] == JUDGE:
            return verdict(row["answers"].values(), text)
        answer = row["answers"].get(asked["model"])
        return answer["output"] if answer else Reply(status=404)

    with chat_server(script) as server:
        yield server.url


def verdict(answers: Any, text: str) -> str:
    """[A], [B] or [C] by the log-odds of the two recorded answers that cover most of the prompt, in the order in which they stand there."""
    places = sorted(
        (place, place + len(shown), log_odds(answer["win"]))
        for answer in answers
        if (place := text.find(shown := answer["output"].strip())) >= 0
    )
    pairs = [
        (one[1] - one[0] + other[1] - other[0], one[2] - other[2])
        for number, one in enumerate(places)
        for other in places[number + 1 :]
        if one[1] <= other[0]
    ]
    if not pairs:
        return "At most one of these answers was recorded. [C]"
    apart = max(pairs)[1]
    return f"They differ by {apart:.2f}. [{'A' if apart > MARGIN else 'B' if apart < -MARGIN else 'C'}]"
