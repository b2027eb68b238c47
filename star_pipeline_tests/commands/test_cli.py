"""The console as a user meets it: help, exit codes, and mistakes that end as one line."""

import json

import pytest
import yaml

from star_pipeline.adapters.journal.sqlite.journal import SqliteJournal
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.offline.knowledge import shipped_examples
from star_pipeline.adapters.offline.models import _folders
from star_pipeline.adapters.offline.training import Recipe
from star_pipeline.commands.doctor import _models
from star_pipeline.config import load_config
from star_pipeline_tests.completions_server import completions_server
from star_pipeline_tests.conftest import CONFIG, seed_rows
from star_pipeline_tests.llm_server import Reply, chat_server
from star_pipeline_tests.program import star
from star_pipeline_tests.tiny_models import save_gpt_neox


@pytest.mark.parametrize("command", ["run", "dev", "query", "estimate", "doctor", "calibrate"])
def test_help_has_an_example_and_the_contracts_options(command):
    said = star(command, "--help").stdout
    assert "Example: star-pipeline" in said
    assert "--lake" in said
    assert command == "query" or "--config" in said


@pytest.mark.parametrize("command", ["compare", "export", "replay", "report", "score"])
def test_help_of_the_others_has_an_example_too(command):
    said = star(command, "--help").stdout
    assert f"star-pipeline {command} " in " ".join(said.split("Example:")[1].split())


def mistake(*arguments, **options):
    """(exit code, the one line) of a command that must fail."""
    result = star(*arguments, **options)
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("star-pipeline: ")]
    assert len(lines) == 1, result.stderr
    return result.returncode, lines[0]


def test_usage_mistakes_exit_2_and_name_the_remedy(tmp_path):
    lake = ("--lake", tmp_path / "lake")
    cases = [
        (("run", "--bogus"), "--bogus"),
        (("run", "--config", "ofline", *lake), "'ofline'"),
        (("run", "--seeds", tmp_path / "nope.json", *lake), "nope.json: no such file"),
        (("query", *lake), "--list"),
        (("dev", "--config", "ofline", *lake), "'ofline'"),
        (("query", "winers", *lake), "winners"),
        (("query", "SELECT 1", "--format", "xml", *lake), "table, csv, json, parquet"),
        (("compare", tmp_path), "two or more different lakes"),
        (("compare", tmp_path, tmp_path / "b", "--format", "xml"), "table, csv, json"),
        (("replay", "--rate", "2", *lake), "--rate"),
        (("export", "--output", tmp_path / "x.json", *lake), "--format"),
        (("export", "--format", "share-gpt", "--output", tmp_path / "x.json", *lake), "(did you mean sharegpt?)"),
    ]
    for arguments, words in cases:
        code, line = mistake(*arguments)
        assert (code, words in line) == (2, True), line


def test_a_bad_seed_row_exits_1_and_takes_nothing_in(tmp_path):
    (tmp_path / "s.jsonl").write_text(json.dumps(seed_rows(1)[0]) + '\n{"instruction": "x", "output": 3}\n')
    code, line = mistake("run", "--lake", tmp_path / "lake", "--seeds", tmp_path / "s.jsonl")
    assert code == 1
    assert "s.jsonl, row 2, field 'output'" in line
    assert list((tmp_path / "lake" / "seeds").iterdir()) == []


def test_a_lake_without_seeds_says_where_to_put_them(tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(CONFIG))
    code, line = mistake("run", "--config", tmp_path / "c.yaml", "--lake", tmp_path / "lake")
    assert code == 1
    assert "lake/seeds" in line
    assert "--seeds" in line


def test_a_query_before_a_run_says_what_to_do(tmp_path):
    code, line = mistake("query", "SELECT 1", "--lake", tmp_path)
    assert code == 1
    assert "star-pipeline run" in line


def test_a_model_that_is_not_there_ends_as_one_line_before_anything_is_paid(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(seed_rows(2)))
    with chat_server(lambda asked: "an answer") as server:
        agents = {name: {"model": "hosted_vllm/m", "api_base": server.url} for name in "ab"}
        scoring = {"small": str(tmp_path / "no-model"), "large": str(tmp_path / "no-model")}
        (tmp_path / "c.yaml").write_text(yaml.safe_dump({**CONFIG, "agents": agents, "scoring": scoring}))
        options = ("run", "--config", tmp_path / "c.yaml", "--lake", tmp_path / "lake")
        code, line = mistake(*options, "--seeds", tmp_path / "s.json")
        assert code == 1
        assert "no-model" in line
        assert server.requests == []


def doctor(tmp_path, **changes):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**CONFIG, **changes}))
    result = star("doctor", "--config", tmp_path / "c.yaml", "--lake", tmp_path / "lake")
    assert "Traceback" not in result.stderr
    return result.returncode, result.stdout


def test_doctor_finds_what_is_wrong_without_paying(tmp_path):
    (tmp_path / "lake" / "seeds").mkdir(parents=True)
    (tmp_path / "lake" / "seeds" / "s.json").write_text('[{"instruction": "", "output": "x"}]')
    with chat_server(lambda asked: Reply(status=500)) as server:
        fine = {"model": "hosted_vllm/m", "api_base": server.url}
        agents = {
            "a": fine,
            "b": fine,
            "renamed": {"model": "hosted_vllm/other", "api_base": server.url},
            "dead": {"model": "hosted_vllm/m", "api_base": "http://127.0.0.1:9/v1"},
            "keyless": {"model": "openai/gpt-4o-mini", "api_key_env": "STAR_TEST_NO_SUCH_KEY"},
        }
        pairs = {"sampled": ["keep+renamed", "keep+dead", "keep+keyless", "a+b"], "base": ["keep+b"]}
        code, said = doctor(tmp_path, agents={**agents, "unused": agents["dead"]}, pairs=pairs)
        assert server.requests == []
    lines = {line.split(": ", 2)[1].split(" ")[0]: line for line in said.splitlines() if "agents: " in line}
    assert code == 1
    assert "unused" not in lines
    assert lines["a"].startswith("fine")
    assert "serves m, not other" in lines["renamed"]
    assert "no answer" in lines["dead"]
    assert "STAR_TEST_NO_SUCH_KEY" in lines["keyless"]
    assert "s.json, row 1, field 'instruction': empty" in said
    assert "wrong models: scoring model 's'" in said
    assert "fine  data set: none yet" in said


def test_doctor_asks_the_servers_of_scoring_models(tmp_path):
    folder = save_gpt_neox(tmp_path / "m", ["some text"], seed=0, hidden=16, layers=1, context=128)
    with completions_server(folder, "vllm") as server:
        model = {"model": "m", "api_base": server.url, "tokenizer": str(folder)}
        scoring = {"small": model, "large": {**model, "model": "other"}, "max_length": 100}
        _, said = doctor(tmp_path, scoring=scoring)
        assert [len(asked["prompt"]) for asked in server.requests] == [2, 2]
    assert f"fine  models: small m@{server.url}: gpt_neox, " in said
    assert "answers with prompt_logprobs" in said
    assert (
        f"wrong models: scoring model other@{server.url}: not there (HTTP 404: The model `other` does not exist.)"
        in said
    )


def test_doctor_is_content_with_the_offline_profile(tmp_path):
    result = star("doctor", "--lake", tmp_path)
    assert result.returncode == 0, result.stdout
    assert result.stdout.rstrip().endswith("all is well")


def test_doctor_gates_a_script_before_there_are_seeds_and_reads_those_it_is_given_without_taking_them_in(tmp_path):
    lake, good, bad = tmp_path / "lake", tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text("".join(json.dumps(row) + "\n" for row in seed_rows(3)))
    bad.write_text(json.dumps(seed_rows(1)[0]) + '\n{"instruction": "x", "output": 3}\n')
    scoring = {"small": "offline/small", "large": "offline/large"}
    agents = {name: {"model": "offline/tutor"} for name in "ab"}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**CONFIG, "agents": agents, "scoring": scoring}))
    asked = ("doctor", "--config", tmp_path / "c.yaml", "--lake", lake)
    young = star(*asked)
    assert young.returncode == 0, young.stdout
    assert f"fine  seeds: none yet; put some into {lake / 'seeds'}, or name them with --seeds FILE" in young.stdout
    well = star(*asked, "--seeds", good)
    assert well.returncode == 0, well.stdout
    assert "fine  seeds: 3 records, those of --seeds counted in (looked at, not taken in)" in well.stdout
    for given, words in ((bad, "bad.jsonl, row 2, field 'output'"), (tmp_path / "nope.jsonl", "no such file")):
        ill = star(*asked, "--seeds", good, "--seeds", given)
        assert (ill.returncode, words in ill.stdout) == (1, True), ill.stdout
    assert list((lake / "seeds").iterdir()) == []


def test_doctor_tells_of_the_offline_models_whether_they_are_there(tmp_path):
    small, large = _folders(tmp_path / "models", Recipe(), shipped_examples()).values()
    small.mkdir(parents=True)
    said = {role: text for good, text in _models(load_config("offline"), Lake.at(tmp_path)) for role in [text[:5]]}
    assert said["small"] == f"small offline/small: trained, in {small}"
    assert said["large"] == "large offline/large: not there yet, a run trains it first"
    assert not large.exists()


def test_doctor_tells_what_the_journal_holds_and_mends_its_totals(tmp_path):
    lake = Lake.at(tmp_path / "lake")
    lake.prepare()
    journal = SqliteJournal(lake.journal_folder(None), lake.lake_id)
    journal._db.execute("INSERT INTO ledger(lake, agent, stage, spent) VALUES (?, 'a', 'judge', 5)", (lake.lake_id,))
    journal.close()
    said = [star("doctor", "--lake", tmp_path / "lake").stdout for _ in range(2)]
    assert "journal.sqlite: the running totals were wrong and are mended" in said[0]
    assert "journal.sqlite: 0 replies; this lake spent 0.0000 USD" in said[1]
