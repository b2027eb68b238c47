"""``star-pipeline estimate`` against what a run then really asks."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.cli import app
from star_pipeline.commands.doctor import _seeds as seeds_checked
from star_pipeline.commands.estimate import print_estimate, run_estimate
from star_pipeline.commands.run import RunFailed, run_pipeline
from star_pipeline.config import load_config
from star_pipeline.core import tables
from star_pipeline.core.errors import SeedError
from star_pipeline.core.planning.cost_estimate import reach
from star_pipeline.core.planning.dry_run import ModelSize, sequence_flops
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline_tests.conftest import CONFIG, fake_resources, seed_rows
from star_pipeline_tests.journals import read_spend
from star_pipeline_tests.llm_server import Reply, chat_server
from star_pipeline_tests.tiny_models import save_gpt_neox


def answer(asked):
    text = asked["messages"][-1]["content"]
    if "[Final Verdict]" in text:
        return "Both are fine.\n[A]"
    return f"{asked['model']} says {len(text)} things about {text[-60:]}"


class Side:
    """A lake, a configuration and seeds; chats are real and go to ``server``, scoring models are fakes."""

    def __init__(self, folder, server):
        self.folder, self.server = folder, server
        self.lake = Lake.at(folder / "lake")
        self.config = folder / "config.yaml"
        self.seeds = folder / "seeds.json"
        self.seeds.write_text(json.dumps(seed_rows(12)))
        self.configure()

    def configure(self, **changes):
        agent = {"api_base": self.server.url, "params": {"max_tokens": 100}, "input_cost_per_token": 1e-6}
        agents = {name: {"model": f"hosted_vllm/{name}", "output_cost_per_token": 2e-6, **agent} for name in "ab"}
        sampling = {"pairs_per_seed": 4, "from_memory": 0, "shard_size": 6}
        scoring = {"small": "offline/small", "large": "offline/large", "template": "plain"}
        settings = {**CONFIG, "agents": agents, "sampling": sampling, "scoring": scoring, **changes}
        self.config.write_text(json.dumps(settings))

    def estimate(self, *paths):
        return run_estimate(str(self.config), self.lake, [str(path) for path in paths])

    def run(self, ease=2.0):
        settings, root = SettingsResource(config=str(self.config)), LakeResource(root=str(self.lake.root))
        fakes = fake_resources(settings, root, ease=ease)
        del fakes["chat"]
        return run_pipeline(str(self.config), self.lake, [str(self.seeds)], SilentProgress(), fakes)

    def spent(self):
        folder = self.lake.journal_folder(load_config(str(self.config)).journal)
        return sum(row.cost_usd for row in read_spend(folder, self.lake.lake_id))


@pytest.fixture
def side(tmp_path):
    with chat_server(answer) as server:
        yield Side(tmp_path, server)


def test_before_the_first_run_it_tells_just_the_calls_that_the_run_then_makes_and_writes_nothing(side):
    told = side.estimate(side.seeds)
    assert not side.lake.root.exists()
    assert (told.seeds_to_do, told.shards_to_do) == (12, 2)
    side.run()
    assert sum(line.calls for line in told.agents) == len(side.server.requests)
    assert {line.stage for line in told.agents} == {"rewrite", "respond", "judge"}
    assert 0 < told.usd < told.most_usd
    assert any("every candidate is judged" in text for text in told.assumptions)


@pytest.mark.parametrize("mode", ["logprobs", "json"])
def test_several_judges_in_another_mode_are_counted_as_they_are_then_asked(tmp_path, mode):
    def script(asked):
        text = asked["messages"][-1]["content"]
        if "[Final Verdict]" not in text:
            return answer(asked)
        first = 0.6 + 0.3 * (sum(map(ord, text)) % 2)
        if mode == "logprobs":
            return Reply("A", finish_reason="length", logprobs={"A": math.log(first), "B": math.log(1 - first)})
        return json.dumps({"comparison": asked["model"], "verdict": "A" if first > 0.7 else "C"})

    with chat_server(script) as server:
        side = Side(tmp_path, server)
        side.configure(judge={"agents": ["a", "b"], "mode": mode})
        told = side.estimate(side.seeds)
        side.run()
        assert sum(line.calls for line in told.agents) == len(server.requests)
        assert {line.agent for line in told.agents if line.stage == "judge"} == {"a", "b"}
    rows = side.lake.read_table(tables.JUDGE_VERDICTS, "000001-seeds")
    assert {row.judge_agent for row in rows} == {"a, b"}
    assert all([said.agent for said in row.judges] == ["a", "b"] for row in rows)
    assert all((row.margin is not None) == (mode == "logprobs") for row in rows)
    most = {line.agent: line.most_usd for line in told.agents if line.stage == "judge"}
    assert sum(row.cost_usd for row in rows) < sum(most.values())


def test_after_it_nothing_is_to_do_and_of_new_seeds_what_was_measured_is_expected(side):
    side.run()
    sent = len(side.server.requests)
    assert side.estimate().agents == ()
    assert side.estimate().seeds_to_do == 0
    more = side.folder / "more.json"
    more.write_text(json.dumps(seed_rows(6, offset=100)))
    told = side.estimate(more)
    assert told.seeds_to_do == 6
    paid = side.spent()
    assert told.usd == pytest.approx(paid / 2, rel=0.15)
    assert sum(line.calls for line in told.agents) == pytest.approx(sent / 2, rel=0.15)
    assert any("measured in this lake" in text for text in told.assumptions)


def test_agents_that_ask_in_batches_are_estimated_at_their_price(side):
    live = side.estimate(side.seeds)
    agents = json.loads(side.config.read_text())["agents"]
    side.configure(agents={name: {**agent, "mode": "batch"} for name, agent in agents.items()})
    batch = side.estimate(side.seeds)
    assert (batch.usd, batch.most_usd) == (pytest.approx(live.usd / 2), pytest.approx(live.most_usd / 2))
    assert "a asks in batches, at 50% of the price of a live reply" in batch.assumptions


def test_the_other_turns_of_conversations_are_counted_once_they_are_asked_for(side):
    talk = [{"from": ("human", "gpt")[n % 2], "value": f"{n}?"} for n in range(6)]
    side.seeds.write_text(json.dumps([{"conversations": talk}, {"conversations": talk[:4]}]))
    side.configure()
    assert side.estimate(side.seeds).seeds_to_do == 2
    side.run()
    sent = len(side.server.requests)
    side.configure(seeds={"turns": "every"})
    told = side.estimate(side.seeds)
    assert told.seeds_to_do == 1  # the first answer: both records begin with it, and the second answer was a seed
    assert sum(line.calls for line in told.agents) > 0
    side.run()
    assert sum(line.calls for line in told.agents) == len(side.server.requests) - sent


def test_what_the_journal_has_is_not_counted_again(side):
    side.configure(budget={"usd": 0.01})
    with pytest.raises(RunFailed, match="the budget is used up"):
        side.run()
    sent = len(side.server.requests)
    side.configure(budget={"usd": 10.0})
    told = side.estimate()
    done = [spec for spec in (tables.CANDIDATES, tables.JUDGE_VERDICTS) if side.lake.has_table(spec, "000001-seeds")]
    in_tables = sum(row.attempts for spec in done for row in side.lake.read_table(spec, "000001-seeds"))
    assert sum(line.in_journal for line in told.agents) == sent - in_tables > 0
    assert told.spent_usd == pytest.approx(side.spent())
    side.run()
    assert sum(line.calls for line in told.agents) == len(side.server.requests) - sent


def test_a_shard_that_is_scored_is_judged_where_its_gaps_are_positive(side):
    side.run(ease=0.0)
    verdicts = side.lake.read_table(tables.JUDGE_VERDICTS, "000001-seeds")
    assert {"skipped"} < {row.verdict for row in verdicts}
    side.lake.table(tables.JUDGE_VERDICTS, "000001-seeds").unlink()
    told = side.estimate()
    assert sum(line.calls for line in told.agents) == 0  # its replies are in the journal
    assert [line.in_journal for line in told.agents] == [2 * sum(row.verdict != "skipped" for row in verdicts)]
    side.configure(journal="another")
    assert [line.calls for line in side.estimate().agents] == [2 * sum(row.verdict != "skipped" for row in verdicts)]


def test_many_untouched_seeds_are_sampled_and_scaled(side, monkeypatch):
    side.seeds.write_text(json.dumps(seed_rows(100)))
    whole = side.estimate(side.seeds)
    monkeypatch.setattr("star_pipeline.commands.estimate._MOST_SEEDS", 40)
    told = side.estimate(side.seeds)
    assert told.seeds_to_do == 100
    assert sum(line.calls for line in told.agents) == pytest.approx(sum(line.calls for line in whole.agents), rel=0.05)
    assert any("untouched seeds, evenly spread" in text for text in told.assumptions)


def test_it_tells_what_a_lag_has_drawn_before_anything_is_learnt_and_small_first_shards_lower_it(side, capsys):
    assert side.estimate(side.seeds).unlearnt is None
    sampling = {"pairs_per_seed": 4, "from_memory": 0, "shard_size": 6}
    shown = []
    for first in (None, 2):
        side.configure(evolution={"lag": 1}, sampling={**sampling, "first_shard_size": first})
        told = side.estimate(side.seeds)
        print_estimate(told, "text")
        shown.append((told.shards_to_do, told.unlearnt.shards, told.unlearnt.seeds))
        assert told.unlearnt.text in capsys.readouterr().out
        checked = [text for _, text in seeds_checked(load_config(str(side.config)), side.lake, [str(side.seeds)])]
        assert checked[-1] == told.unlearnt.text
    assert shown == [(2, 2, 12), (4, 2, 4)]


def test_without_a_price_or_a_limit_of_tokens_the_usd_are_unknown_and_not_zero(side):
    side.configure(agents={name: {"model": f"hosted_vllm/{name}"} for name in "ab"})
    told = side.estimate(side.seeds)
    assert {line.usd for line in told.agents} == {None}
    assert told.most_usd is None


def test_it_says_what_the_budget_will_do_and_a_run_does_it(side):
    free = side.estimate(side.seeds)
    assert free.conclusion.startswith("no budget is set: the run may spend at most ")
    for budget, words in (
        (free.most_usd * 1.01, "are enough, even in the worst case"),
        ((free.usd + free.most_usd) / 2, "are enough for the "),
    ):
        side.configure(budget={"usd": budget})
        assert words in side.estimate(side.seeds).conclusion
    side.configure()
    side.run()  # so that the next shards' costs are known from measuring
    side.seeds.write_text(json.dumps([*seed_rows(12), *seed_rows(12, offset=100)]))
    side.configure(budget={"usd": side.spent() + side.estimate(side.seeds).usd * 0.7})
    told = side.estimate(side.seeds)
    assert (told.within_budget.seeds, told.within_budget.shards) == (8, 1)
    assert (
        "the run will stop at the budget after about 8 of 12 seeds (1 of 2 shards whole), in the worst case"
        in told.conclusion
    )
    with pytest.raises(RunFailed, match="the budget is used up"):
        side.run()
    assert len(side.lake.shards_of(tables.JUDGE_VERDICTS)) == 3  # the two before, and one of the two
    side.configure(agents={name: {"model": f"hosted_vllm/{name}"} for name in "ab"}, budget={"usd": 1.0})
    assert side.estimate(side.seeds).conclusion.startswith("the run will not start: a budget needs a price")


@given(
    usd=st.floats(0, 1e6),
    more=st.floats(1, 1e3),
    left=st.floats(-10, 1e6),
    seeds=st.integers(0, 10**6),
    size=st.integers(1, 500),
)
def test_the_reach_of_a_budget_is_within_bounds_and_grows_with_it(usd, more, left, seeds, size):
    shards = -(-seeds // size)
    found, further = (reach(usd, usd * more, money, seeds, shards) for money in (left, left + 1))
    assert 0 <= found.least_seeds <= found.seeds <= seeds
    assert 0 <= found.shards <= shards
    assert (found.seeds, found.least_seeds) <= (further.seeds, further.least_seeds)
    if left >= usd * more:
        assert (found.seeds, found.shards, found.least_seeds) == (seeds, shards, seeds)


def test_flops_are_two_a_parameter_and_token_plus_causal_attention(side, tmp_path):
    assert sequence_flops(ModelSize(10, 3, 4), 7) == 2 * 10 * 7 + 2 * 3 * 4 * 49
    from star_pipeline.adapters.model_size import model_size

    save_gpt_neox(tmp_path / "m", ["some text"], seed=0, hidden=32, layers=2, vocabulary=300)
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    multiplied = sum(p.numel() for p in model.parameters()) - model.get_input_embeddings().weight.numel()
    assert model_size(str(tmp_path / "m")) == ModelSize(multiplied, 2, 32)
    assert model_size("offline/large").layers == 3
    scoring = {"small": str(tmp_path / "m"), "large": str(tmp_path / "none"), "template": "plain"}
    side.configure(scoring=scoring)
    flops = side.estimate(side.seeds).flops
    assert flops["small"] > 1e6
    assert "no such folder" in flops["large"]


def test_the_command_prints_a_table_or_json_and_says_where_seeds_are_missing(side):
    from typer.testing import CliRunner

    given = ["estimate", "--config", str(side.config), "--lake", str(side.lake.root)]
    said = CliRunner().invoke(app, [*given, "--seeds", str(side.seeds)]).output
    assert all(
        words in said
        for words in (
            "12 seeds in 2 shards",
            "respond",
            "USD at most",
            "FLOPs",
            "so no budget is set",
            "how these figures came about",
        )
    )
    told = json.loads(CliRunner().invoke(app, [*given, "--seeds", str(side.seeds), "--format", "json"]).output)
    assert told["seeds_to_do"] == 12
    assert told["usd"] > 0
    assert (told["within_budget"], told["conclusion"][:16]) == (None, "no budget is set")
    failed = CliRunner().invoke(app, given)
    assert isinstance(failed.exception, SeedError)
    assert not Path(str(side.lake.root)).exists()
