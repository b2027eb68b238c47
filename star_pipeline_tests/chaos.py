"""A server that misbehaves at random, the same way for the same seed, and keeps its own count of what it would charge."""

import random
import threading
import time
from collections import Counter
from typing import Any

from star_pipeline_tests.llm_server import Reply, Script, completion


class Chaos:
    """Wraps a script. Each time a question is asked its fate is drawn anew; ``calm`` of the draws just answer.

    ``fates`` counts what happened; ``bill_usd`` is every request's tokens times price, those of requests included whose reply
    was lost on the way: only what was refused is free. Errors quote the key that was sent.
    """

    def __init__(self, script: Script, seed: int, prices: tuple[float, float], calm: float = 0.6) -> None:
        self._script, self._seed, self._prices, self._calm = script, seed, prices, calm
        self._asked: Counter[str] = Counter()
        self._guard = threading.Lock()
        self.fates: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.bill_usd = 0.0

    def __call__(self, asked: dict[str, Any]) -> Reply:
        question = repr((asked["model"], asked["messages"], asked.get("seed")))
        with self._guard:
            self._asked[question] += 1
            draw = random.Random(f"{self._seed} {question} {self._asked[question]}")
        said = self._script(asked)
        answer = Reply(said) if isinstance(said, str) else said
        fates = ["429", "500", "503", "reset", "half", "garbage", "empty", "cut", "silence"]
        fate = "fine" if draw.random() < self._calm else draw.choices(fates, [6, 6, 3, 4, 3, 4, 3, 3, 1])[0]
        quoted = {"Retry-After": "1"} if fate == "429" else {}
        time.sleep(draw.uniform(0, 0.03))
        with self._guard:
            if fate == "silence" and self.fates[fate]:
                fate = "half"  # it is as good as lost, and each silence lasts as long as the client's patience
            self.fates[fate] += 1
        if fate in ("429", "500", "503"):
            echo = f'{{"error": {{"message": "no: {asked["authorization"]}"}}}}'.encode()
            return Reply(status=int(fate), headers=quoted, body=echo)
        if fate == "empty":
            answer = Reply("")
        if fate == "cut":
            answer = Reply(answer.text[: len(answer.text) // 2] + "…", finish_reason="length")
        self._charge(asked, answer)
        if fate in ("reset", "half", "silence"):
            return Reply(breaks=fate)
        if fate == "garbage":
            return Reply(body=b"{oops: " + asked["authorization"].encode())
        with self._guard:
            self.answers[question] += 1
        return answer

    def _charge(self, asked: dict[str, Any], answer: Reply) -> None:
        usage = completion(asked, answer)["usage"]
        with self._guard:
            self.bill_usd += usage["prompt_tokens"] * self._prices[0] + usage["completion_tokens"] * self._prices[1]
