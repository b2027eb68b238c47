"""Profiles load, the paper's is the paper's, and every mistake is one line that says what to do."""

import ast
from pathlib import Path

import pytest
import yaml

import star_pipeline
from star_pipeline.config import StarConfig, load_config, profile_names
from star_pipeline.config.evolution import EvolutionConfig
from star_pipeline.config.models import AgentConfig
from star_pipeline.config.scoring import BEFORE, LocalModel, ServedModel
from star_pipeline.core.equations.evolution import EvolutionRules
from star_pipeline.core.errors import ConfigError

MINIMAL = {
    "agents": {"a": {"model": "offline/tutor"}},
    "pairs": {"sampled": ["keep+a", "a+a"], "base": ["keep+a"]},
    "scoring": {"small": "s", "large": "l"},
    "judge": {"agent": "a"},
}
SERVED = {"model": "org/m", "api_base": "http://h:8000/v1"}


def written(tmp_path, **changes):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}))
    return str(path)


def test_the_shipped_profiles_load():
    assert profile_names() == ["laptop", "local", "offline", "paper"]
    assert all(load_config(name).name == name for name in profile_names())


def test_the_papers_setting():
    paper = load_config("paper")
    assert len(paper.agents) == 6
    assert len(paper.sampled_ids) == 10
    assert paper.pairs.base == ("keep+chatgpt",)
    assert (paper.judge.agent, paper.scoring.small) == ("chatgpt", "EleutherAI/pythia-1b")
    assert paper.scoring.divisor == "max"


def test_defaults_are_the_contracts(tmp_path):
    config = load_config(written(tmp_path))
    assert (config.sampling.pairs_per_seed, config.sampling.from_memory, config.sampling.shard_size) == (3, 1, 64)
    assert (config.scoring.template, config.scoring.max_length, config.scoring.divisor) == ("alpaca", 2048, "p95")
    assert (config.judge.attempts, config.judge.on_reversal, config.judge.skip_nonpositive_gap) == (2, "tie", True)
    assert (config.evolution.method, config.evolution.floor, config.memory.neighbours) == ("thompson", 0.0, 10)


def test_the_full_grid(tmp_path):
    grid = {"instruction": ["keep", "a"], "response": ["a"], "base": ["seed"]}
    assert load_config(written(tmp_path, pairs=grid)).sampled_ids == ("keep+a", "a+a")


def test_every_knob_says_what_it_is():
    def knobs(model, path):
        for name, field in model.model_fields.items():
            section = getattr(field.annotation, "model_fields", None)
            if section:
                yield from knobs(field.annotation, f"{path}{name}.")
            else:
                yield f"{path}{name}", field

    every = [
        *knobs(StarConfig, ""),
        *knobs(AgentConfig, "agents."),
        *knobs(ServedModel, "scoring.small."),
        *knobs(LocalModel, "scoring.large."),
    ]
    undescribed = [name for name, field in every if not field.description]
    assert undescribed == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampilng": {}}, ["sampilng", "no such setting"]),
        ({"sampling": {"pairs_per_seed": 1, "from_memory": 2}}, ["sampling", "from_memory (2)", "pairs_per_seed (1)"]),
        ({"sampling": {"shard_size": 0}}, ["sampling.shard_size", "greater than or equal to 1", "0"]),
        ({"pairs": {"sampled": ["keep+b"], "base": ["keep+a"]}}, ["'keep+b'", "unknown response agent", "'b'"]),
        ({"pairs": {"sampled": ["b+a"], "base": ["keep+a"]}}, ["unknown instruction agent"]),
        ({"pairs": {"sampled": ["a"], "base": ["keep+a"]}}, ["'a' is not a pair"]),
        ({"pairs": {"sampled": ["a+a", "a+a"], "base": ["keep+a"]}}, ["twice"]),
        ({"pairs": {"base": ["keep+a"]}}, ["sampled"]),
        ({"judge": {"agent": "nobody"}}, ["judge.agent", "nobody"]),
        ({"judge": {"agents": ["a", "nobody"]}}, ["judge.agents", "nobody"]),
        ({"judge": {"agent": "a", "agents": ["a"]}}, ["judge", "either agent, one name, or agents"]),
        ({"judge": {"agents": ["a", "a"]}}, ["judge", "twice"]),
        ({"judge": {}}, ["judge", "either agent, one name, or agents"]),
        ({"judge": {"agent": "a", "soft": True}}, ["judge", "mode: logprobs"]),
        ({"judge": {"agent": "a", "mode": "numbers"}}, ["judge.mode", "logprobs"]),
        ({"evolution": {"floor": 0.6}}, ["evolution.floor", "at most 0.5"]),
        ({"agents": {"a": {"model": "m", "params": {"api_key": "sk-123"}}}}, ["api_key", "environment"]),
        (
            {"agents": {"a": {"model": "m", "params": {"extra_headers": {"Authorization": "sk-123"}}}}},
            ["extra_headers.Authorization"],
        ),
        *(
            ({"agents": {"a": {"model": "m", "params": params}}}, ["agents.a.params", *words])
            for params, words in [
                ({"stream": True}, ["stream", "whole"]),
                ({"extra_body": {"stream": True}}, ["stream", "whole"]),
                ({"n": 2}, ["n: ", "paid"]),
                ({"tools": [{"type": "function"}]}, ["tools", "tool"]),
                ({"model": "other"}, ["model", "agent's model"]),
                ({"api_base": "http://h/v1"}, ["api_base"]),
                ({"extra_headers": {"X-My-Auth": "sk-123"}}, ["extra_headers.X-My-Auth", "environment"]),
                ({"extra_body": {"deep": [{"Authorization": "Bearer sk-123"}]}}, ["extra_body.deep.0.Authorization"]),
                ({"extra_body": {"note": "Bearer sk-123456789"}}, ["extra_body.note", "looks like a secret"]),
                ({"extra_body": {"hook": "http://me:sk-123@h/v1"}}, ["extra_body.hook", "looks like a secret"]),
                ({"hf_token": "sk-123"}, ["hf_token"]),
                ({"aws_secret_access_key": "sk-123"}, ["aws_secret_access_key"]),
                ({"accessToken": "sk-123"}, ["accessToken"]),
            ]
        ),
        ({"memory": {"embedding": "http://me:sk-123@h/x"}}, ["memory.embedding", "api_key_env"]),
        ({"sampling": {"seed": "http://me:sk-123@h/x"}}, ["sampling.seed"]),
        ({"judge": {"agent": "a", "params": {"api_key": "sk-123"}}}, ["judge.params", "api_key"]),
        (
            {"agents": {"a": {"model": "m", "api_key_env": "sk-123"}}},
            ["api_key_env", "no name of an environment variable"],
        ),
        ({"pairs": {"instruction": ["keep", "keep"], "response": ["a"], "base": ["keep+a"]}}, ["twice"]),
        (
            {"pairs": {"instruction": ["keep"], "response": ["a", "seed"], "base": ["keep+a"]}},
            ["'seed' cannot be sampled"],
        ),
        ({"agents": {"keep": {"model": "m"}, "a": {"model": "m"}}}, ["agents.keep"]),
        ({"agents": {"a": {"model": "m", "instruction_prompt": "sing"}}}, ["unknown prompt 'sing'"]),
        ({"prompts": {"respond": "nowhere.jinja"}}, ["prompts.respond", "nowhere.jinja"]),
        ({"scoring": {"small": "s"}}, ["scoring.large", "missing"]),
        ({"scoring": {"small": "", "large": "l"}}, ["scoring.small: ", "at least 1 character"]),
        ({"scoring": {"small": 3, "large": "l"}}, ["scoring.small: ", "valid string"]),
        ({"scoring": {"small": "@http://h/v1", "large": "l"}}, ["scoring.small.model: ", "at least 1 character"]),
        ({"scoring": {"small": "m@http://", "large": "l"}}, ["scoring.small.api_base: ", "http://127.0.0.1:8000/v1"]),
        ({"scoring": {"small": "m@http://h:port/v1", "large": "l"}}, ["scoring.small.api_base: ", "no address"]),
        (
            {"scoring": {"small": {"model": "m", "tokenizer": "t"}, "large": "l"}},
            ["scoring.small.api_base: ", "missing"],
        ),
        ({"scoring": {"small": {**SERVED, "tries": 2}, "large": "l"}}, ["scoring.small.tries", "no such setting"]),
        ({"scoring": {"small": {**SERVED, "max_tries": 0}, "large": "l"}}, ["scoring.small.max_tries", "given: 0"]),
        ({"scoring": {"small": {**SERVED, "api_key_env": "sk-1"}, "large": "l"}}, ["small.api_key_env", "environment"]),
        ({"evolution": {"rate": "fast"}}, ["evolution.rate", "'fast'"]),
    ],
)
def test_a_mistake_is_one_line_with_file_field_and_remedy(tmp_path, changes, words):
    path = written(tmp_path, **changes)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    text = str(error.value)
    assert text.startswith(path)
    assert all(word in text for word in words), text
    assert "\n" not in text
    assert "sk-123" not in text


def test_what_is_no_configuration(tmp_path):
    with pytest.raises(ConfigError, match="local, offline, paper"):
        load_config("ofline")
    (tmp_path / "x.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match="no valid YAML"):
        load_config(str(tmp_path / "x.yaml"))
    (tmp_path / "x.yaml").write_text("name: a\nname: b")
    with pytest.raises(ConfigError, match="'name' is there twice"):
        load_config(str(tmp_path / "x.yaml"))
    (tmp_path / "x.yaml").write_text("")
    with pytest.raises(ConfigError, match="empty"):
        load_config(str(tmp_path / "x.yaml"))
    (tmp_path / "x.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="expected a mapping"):
        load_config(str(tmp_path / "x.yaml"))
    (tmp_path / "x.yaml").write_bytes(b"name: \xff")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(str(tmp_path / "x.yaml"))


def test_own_prompts_are_read_beside_the_file_and_are_part_of_the_fingerprint(tmp_path):
    (tmp_path / "own.jinja").write_text("{% block system %}{% endblock %}{% block user %}{% endblock %}")
    config = load_config(written(tmp_path, prompts={"respond": "own.jinja"}))
    assert "block user" in config.prompts["respond"]
    assert config.fingerprint != load_config(written(tmp_path)).fingerprint
    assert load_config(written(tmp_path, name="other")).fingerprint == load_config(written(tmp_path)).fingerprint


def test_a_served_scoring_model_is_text_or_a_mapping(tmp_path):
    def scoring(small):
        return load_config(written(tmp_path, scoring={"small": small, "large": "l"}))

    short, spelt = scoring("org/m@http://h:8000/v1/"), scoring(SERVED)
    assert short.scoring.small == spelt.scoring.small == ServedModel(**SERVED)
    assert (str(short.scoring.small), short.scoring.large) == ("org/m@http://h:8000/v1", "l")
    assert short.scoring.small.tokenizer_source == "org/m"
    idle = {"api_key_env": "K", "max_concurrency": 3, "timeout_s": 9, "max_tries": 2}
    assert scoring({**SERVED, **idle}).fingerprint == short.fingerprint
    others = ({**SERVED, "tokenizer": "t"}, {**SERVED, "model": "n"}, {**SERVED, "api_base": "http://i/v1"}, "org/m")
    assert len({short.fingerprint, *(scoring(other).fingerprint for other in others)}) == 5


def test_where_scoring_runs_is_no_part_of_the_fingerprint_unless_differences_are_allowed(tmp_path):
    def scoring(**given):
        return load_config(written(tmp_path, scoring={"small": "s", "large": "l", **given}))

    here = scoring()
    for ray in ({}, {"gpus": 0, "cpus": 4, "replicas": 8}, {"address": "h:6379", "wait_s": 5}):
        there = scoring(engine="ray", ray=ray)
        assert (there.fingerprint, there.calibration_fingerprint) == (here.fingerprint, here.calibration_fingerprint)
    assert scoring(ray={"tolerance": 1e-5}).fingerprint == here.fingerprint  # the local engine knows none
    allowed = scoring(engine="ray", ray={"tolerance": 1e-5})
    assert here.fingerprint != allowed.fingerprint != scoring(engine="ray", ray={"tolerance": 1e-4}).fingerprint
    assert allowed.calibration_fingerprint != here.calibration_fingerprint
    for address in ("ray://h:10001", "head", "http://h:1/x"):
        with pytest.raises(ConfigError, match=r"scoring.ray.address: "):
            scoring(engine="ray", ray={"address": address})
    with pytest.raises(ConfigError, match=r"leave device out: replicas compute on the GPU that Ray gives them"):
        scoring(engine="ray", device="cuda:0")


def test_a_scoring_model_is_spelt_out_where_it_needs_a_template_of_its_own(tmp_path):
    def scoring(small, **rest):
        return load_config(written(tmp_path, scoring={"small": small, "large": "l", "template": "plain", **rest}))

    tuned = scoring({"model": "org/m", "template": "chat"}).scoring
    assert tuned.small == LocalModel(model="org/m", template="chat")
    assert [tuned.template_of(model) for model in tuned.models] == ["chat", "plain"]
    assert [str(model) for model in tuned.models] == ["org/m", "l"]
    served = scoring({**SERVED, "template": "chat"}).scoring
    assert served.small == ServedModel(**SERVED, template="chat")
    assert served.template_of(served.small) == "chat"
    assert scoring({"model": "org/m@http://h:8000/v1", "template": "chat"}).scoring.small == served.small
    # a mapping of a name alone is the name, and a template is part of what decides
    assert scoring({"model": "org/m"}).scoring.small == scoring("org/m").scoring.small == "org/m"
    assert scoring({"model": "org/m"}).fingerprint == scoring("org/m").fingerprint
    told = [
        scoring(small).fingerprint
        for small in ("org/m", SERVED, tuned.small.model_dump(), {**SERVED, "template": "chat"})
    ]
    assert len(set(told)) == 4


def test_settings_that_came_later_leave_earlier_lakes_fingerprints_as_they_were(tmp_path):
    rate = {"evolution": {"rate": 0.001}}
    asked = load_config(written(tmp_path, scoring={**MINIMAL["scoring"], **BEFORE}, **rate))
    assert asked.fingerprint == load_config(written(tmp_path, **rate)).fingerprint == "36c803e09534"
    before = load_config(written(tmp_path)).fingerprint
    assert not set(BEFORE) & set(asked.deciding["scoring"])
    for changes in ({"calibration": "rank"}, {"least_tokens": 2}, {"start": "newline"}):
        other = load_config(written(tmp_path, scoring={**MINIMAL["scoring"], **changes}))
        assert (other.fingerprint != before, other.deciding["scoring"].items() >= changes.items()) == (True, True)
    assert load_config("paper").fingerprint == "2c0c6392e8c5"


def test_the_papers_scoring_is_equation_4_with_raw_gaps():
    paper = load_config("paper").scoring
    assert (paper.start, paper.calibration, paper.least_tokens) == ("token", "none", 1)


ADDRESSES = (
    "http://me:hunter2@h/v1",
    "http://hunter2@h/v1",
    "http://h/v1?key=hunter2",
    "https://h/v1?api-key=hunter2",
    "http://h/v1#hunter2",
    "ftp://me:hunter2@h/v1",
    "http://h/hunter2 /v1",
    "http://me%3Ahunter2%40h/v1",
    "http://:hunter2/",
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_with_a_secret_is_refused_wherever_one_stands_and_not_shown(tmp_path, address):
    for changes, where in (
        ({"scoring": {"small": f"m@{address}", "large": "l"}}, "scoring.small.api_base: "),
        ({"scoring": {"small": {"model": "m", "api_base": address}, "large": "l"}}, "scoring.small.api_base: "),
        ({"agents": {"a": {"model": "m", "api_base": address}}}, "agents.a.api_base: "),
    ):
        with pytest.raises(ConfigError) as error:
            load_config(written(tmp_path, **changes))
        assert where in str(error.value)
        assert "hunter2" not in str(error.value)
        assert "api_key_env" in str(error.value) or "expected something like" in str(error.value)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8000/v1", "https://api.example.com/v1/", "http://[::1]:8000", "http://höst/v1"]
)
def test_a_plain_address_is_taken_as_it_is(tmp_path, address):
    assert (
        load_config(written(tmp_path, agents={"a": {"model": "m", "api_base": address}})).agents["a"].api_base
        == address
    )


@pytest.mark.parametrize(
    "params",
    [
        {"ban_eos_token": False, "add_bos_token": "no", "max_tokens": 5, "stop_token_ids": [1, 2]},
        {"extra_body": {"ignore_eos_token": True, "eos_token": "</s>", "min_tokens": 1}, "logit_bias": {"50256": -100}},
        {
            "stream": False,
            "n": 1,
            "stop": ["</s>"],
            "extra_headers": {"X-Title": "star", "HTTP-Referer": "https://h/x"},
        },
        {
            "reasoning_effort": "low",
            "chat_template_kwargs": {"enable_thinking": False},
            "response_format": {"type": "text"},
        },
    ],
)
def test_what_is_no_secret_may_be_passed_on(tmp_path, params):
    assert load_config(written(tmp_path, agents={"a": {"model": "m", "params": params}})).agents["a"].params == params


def test_a_shared_journal_is_relative_to_the_configuration_file_and_names_no_other_run(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    plain = load_config(written(tmp_path))
    shared = load_config(written(tmp_path, journal="../shared"))
    assert shared.journal == str((tmp_path / "../shared").resolve())
    assert shared.fingerprint == plain.fingerprint


def test_who_gives_a_rate_evolves_by_eq_8_as_before_and_a_dump_means_what_was_meant(tmp_path):
    def evolving(**knobs):
        return load_config(written(tmp_path, evolution=knobs))

    plain = evolving(rate=0.02, floor=0.1)
    assert plain.evolution_rules == EvolutionRules(0.02, 0.1, "eq8")
    assert plain.deciding["evolution"] == {"rate": 0.02, "floor": 0.1}
    assert evolving(method="eq8", rate=0.02, floor=0.1, cost_weight=0).fingerprint == plain.fingerprint
    assert evolving(method="eq8").evolution.rate == 0.05
    bare = evolving()
    assert bare.evolution_rules == EvolutionRules(0.0, 0.0, "thompson")
    assert evolving(method="thompson", rate=0.3).fingerprint == bare.fingerprint
    others = [{"floor": 0.1}, {"cost_weight": 2}, {"rate": 0.02, "cost_weight": 2}, {"lag": 1}]
    assert len({bare.fingerprint, *(evolving(**other).fingerprint for other in others)}) == 5
    for config in (plain, bare):
        assert EvolutionConfig.model_validate(config.evolution.model_dump(mode="json")).rules == config.evolution_rules
        assert EvolutionConfig.model_validate(config.evolution.deciding).rules == config.evolution_rules
    with pytest.raises(ConfigError, match=r"evolution: .*rate: 0 switches method: eq8 off"):
        evolving(method="thompson", rate=0)


def test_the_deciding_settings_hold_what_the_fingerprint_names_and_nothing_idle(tmp_path):
    settings = load_config(written(tmp_path, name="mine", journal="../shared", budget={"usd": 1})).deciding
    assert not settings.keys() & {"name", "journal", "budget", "checks", "sensor"}
    assert settings["evolution"] == {"method": "thompson", "floor": 0.0}
    assert "max_tries" not in next(iter(settings["agents"].values()))


def test_what_judges_as_before_leaves_the_fingerprints_of_earlier_versions_as_they_are(tmp_path):
    """``mode`` and ``agents`` came later: where they say what earlier versions did, they are no part of the settings that decide."""
    plain = load_config(written(tmp_path, judge={"agent": "a"}))
    assert set(plain.deciding["judge"]) == {"agent", "attempts", "on_reversal", "skip_nonpositive_gap", "params"}
    same = load_config(written(tmp_path, judge={"agent": "a", "mode": "written", "margin": 0.0, "soft": False}))
    assert same.fingerprint == plain.fingerprint
    others = [{"agent": "a", "mode": mode} for mode in ("json", "logprobs")]
    others += [{"agents": ["a"]}, {"agent": "a", "mode": "logprobs", "margin": 1}]
    prints = {load_config(written(tmp_path, judge=judge)).fingerprint for judge in others}
    assert len(prints | {plain.fingerprint}) == 5


def test_whether_an_agent_asks_in_batches_changes_no_content_and_is_refused_where_it_cannot(tmp_path):
    def with_agent(**agent):
        return load_config(written(tmp_path, agents={"a": agent}))

    live = with_agent(model="openai/gpt-4o-mini")
    batch = with_agent(model="openai/gpt-4o-mini", mode="batch", batch_discount=0.4)
    assert batch.fingerprint == live.fingerprint
    assert not batch.deciding["agents"]["a"].keys() & {"mode", "batch_discount"}
    assert with_agent(model="hosted_vllm/m", api_base="http://h/v1", mode="batch").agents["a"].mode == "batch"
    for model in ("anthropic/claude-sonnet-4", "hosted_vllm/m", "offline/tutor"):
        with pytest.raises(
            ConfigError, match=r"agents\.a: mode: batch needs a model of openai or azure.*set mode: live"
        ):
            with_agent(model=model, mode="batch")


def test_limits_and_budget_change_no_content_and_so_no_fingerprint(tmp_path):
    agent = {"model": "offline/tutor", "tokens_per_minute": 1000, "adaptive_concurrency": False, "patience_s": 5}
    limited = load_config(written(tmp_path, agents={"a": agent}, budget={"usd": 3.5}))
    assert limited.fingerprint == load_config(written(tmp_path)).fingerprint
    for wrong in ({"usd": 0}, {"usd": -1}, {"eur": 1}):
        with pytest.raises(ConfigError, match="budget"):
            load_config(written(tmp_path, budget=wrong))


def test_merge_keys_are_filled_in_and_what_stands_beside_one_replaces_what_it_brings(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "agents:\n"
        "  a: &server {model: hosted_vllm/m1, api_base: 'http://h:8000/v1', max_tries: 2}\n"
        "  b: &other {<<: *server, model: hosted_vllm/m2}\n"
        "  c: {<<: [*other, {max_concurrency: 3}], max_tries: 7}\n"
        "pairs: {sampled: [keep+a, keep+b], base: [keep+c]}\n"
        "scoring: {small: s, large: l}\njudge: {agent: a}\n"
    )
    agents = load_config(str(path)).agents
    assert [agent.model for agent in agents.values()] == ["hosted_vllm/m1", "hosted_vllm/m2", "hosted_vllm/m2"]
    assert [agent.max_tries for agent in agents.values()] == [2, 2, 7]
    assert agents["c"].max_concurrency == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: {{ NAME }}", "braces { where the name of a setting is expected; quote"),
        ("{{ NAME }}: x", "braces {"),
        ("? [a, b]\n: 1", "brackets ["),
        ("agents: {[a]: 1}", "brackets ["),
        ("b: &b {x: 1, x: 2}\nc: {<<: *b}", "'x' is there twice"),
        ("b: {<<: 3}", "merging"),
        ("name: 2026-13-45", "a date or a number"),
        ("name: " + "9" * 5000, "a date or a number"),
        ("name: !!timestamp x", "a date or a number"),
        ("[" * 5000, "nested too deeply"),
        ("agents: &a {b: {model: m, params: *a}}", "stands within what it names"),
        ("journal: ~nobody-of-this-name/x", "journal: '~nobody-of-this-name/x' is no path"),
        ('prompts: {x: "a\\0b"}', "prompts.x"),
        ("scoring: 3", "scoring: should be"),
    ],
)
def test_odd_yaml_is_one_line(tmp_path, text, words):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(str(path), {"scoring": {"small": "s"}})
    assert words in str(error.value), str(error.value)
    assert "\n" not in str(error.value)


def test_a_choice_that_the_core_knows_is_declared_there_and_not_again_in_the_configuration():
    def choices(room):
        trees = [
            ast.parse(path.read_text("utf-8")) for path in (Path(star_pipeline.__file__).parent / room).rglob("*.py")
        ]
        nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Subscript)]
        return [ast.unparse(node.slice) for node in nodes if ast.unparse(node.value) == "Literal"]

    assert "('p95', 'max')" in choices("core")
    assert choices("config")
    assert not set(choices("config")).intersection(choices("core") + choices("adapters"))
