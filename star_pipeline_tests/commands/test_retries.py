"""``run`` tries again what failed for a reason that may pass, and pays nothing twice: real calls, journal and Dagster; fake models."""

import io
import json
from collections import Counter

import pytest
from rich.console import Console

from star_pipeline.commands.run import run_pipeline
from star_pipeline.commands.summary import print_summary
from star_pipeline.core import tables
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline_tests.commands.test_run import Lakeside
from star_pipeline_tests.conftest import CONFIG, fake_resources, seed_rows
from star_pipeline_tests.llm_server import Reply, chat_server


class Paying(Lakeside):
    """The same lake, whose agents are real ones on a server."""

    def __init__(self, folder, url):
        self.url = url
        super().__init__(folder)

    def configure(self, **changes):
        agents = {
            name: {"model": f"hosted_vllm/{name}", "api_base": self.url, "max_tries": 1, "max_concurrency": 4,
                   "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}
            for name in "ab"
        }  # fmt: skip  # read as a table
        self.config.write_text(json.dumps({**CONFIG, "agents": agents, **changes}))

    def run(self):
        fakes = fake_resources(
            SettingsResource(config=str(self.config)), LakeResource(root=str(self.lake.root)), ease=1.0
        )
        fakes = {name: fakes[name] for name in ("scorer", "embedder")}
        outcome = run_pipeline(str(self.config), self.lake, [], self, fakes)
        said = io.StringIO()
        well = print_summary(Console(file=said, width=400), self.lake, outcome)
        return outcome, well, said.getvalue()

    def stage(self, name, total, later=0.0): ...

    def advance(self, count=1): ...

    def note(self, text): ...


def answer(asked):
    text = asked["messages"][-1]["content"]
    return "[A]" if "[Final Verdict]" in text else f"{asked['model']} on {text[-40:]} anew"


@pytest.fixture
def town(tmp_path):
    """A lake and its server; ``fails(asked)`` says what is answered with an error."""

    class Town:
        fails = staticmethod(lambda asked: None)

        def __call__(self, asked):
            error = self.fails(asked)
            if error:
                return error
            self.answered[json.dumps([asked["model"], asked["messages"], asked.get("seed")])] += 1
            return answer(asked)

    town = Town()
    town.answered = Counter()
    with chat_server(town) as server:
        town.side = Paying(tmp_path, server.url)
        town.server = server
        town.side.seeds(seed_rows(4))
        yield town


def test_what_failed_by_the_way_is_made_by_the_next_run_and_nothing_answered_is_asked_again(town):
    seen = Counter()

    def now_and_then(asked):
        text = json.dumps([asked["model"], asked["messages"]])
        seen[text] += 1
        return Reply(status=500) if sum(map(ord, text)) % 5 == 0 and seen[text] == 1 else None

    town.fails = now_and_then
    outcome, well, said = town.side.run()
    assert not well
    assert outcome.to_try
    assert all(words in said for words in ("failed for a reason that may pass", "server_error", "run again"))
    for _ in range(4):  # what is made at last may be judged for the first time, and that may fail once as well
        outcome, well, said = town.side.run()
        if well:
            break
    assert well, said
    assert outcome.to_try == ()
    assert set(town.answered.values()) == {1}
    rows = town.side.lake.read_table(tables.CANDIDATES, "000001-seeds")
    assert not [row for row in rows if row.error_kind == "server_error"]
    assert town.side.run()[0].idle


def test_a_judge_that_could_not_be_asked_is_asked_by_the_next_run_alone(town):
    down = [True]

    def now_and_then(asked):
        text = asked["messages"][-1]["content"]
        return Reply(status=500) if down[0] and "[Final Verdict]" in text and sum(map(ord, text)) % 2 == 0 else None

    town.fails = now_and_then
    _, well, said = town.side.run()
    assert not well
    assert "comparisons failed" in said
    before, made = sum(town.answered.values()), town.side.files()
    down[0] = False
    outcome, well, _ = town.side.run()
    assert well
    assert outcome.shards == ("000001-seeds",)
    assert set(town.answered.values()) == {1}
    assert sum(town.answered.values()) > before
    same = [name for name, content in town.side.files().items() if made.get(name) == content]
    assert any("candidates" in name for name in same)


def test_under_other_settings_nothing_is_tried_again_that_would_be_paid_twice(town):
    seen = set()

    def once(asked):
        first = asked["model"] == "a" and "a" not in seen
        seen.add(asked["model"])
        return Reply(status=500) if first else None

    town.fails = once
    _, well, _ = town.side.run()
    assert not well
    asked = len(town.server.requests)
    agents = json.loads(town.side.config.read_text())["agents"]
    agents["a"]["params"] = {"temperature": 0.3}
    town.side.configure(agents=agents)
    town.side.run()
    assert len(town.server.requests) == asked
