"""No evaluation question reaches an export of a decontaminated lake: not as a row, a prompt, a chosen or a rejected answer, in any form."""

import json
import re
import zlib

import pytest

from star_pipeline.adapters.dataset_files import read_manifest
from star_pipeline.commands.export import export
from star_pipeline.commands.export_recipe import export_recipe
from star_pipeline.core import tables
from star_pipeline.core.errors import LakeError
from star_pipeline.core.publishing.exports import FORMS
from star_pipeline.core.publishing.overlap import LENGTH, words
from star_pipeline.core.publishing.recipes import RECIPES
from star_pipeline_tests.commands.test_run import Lakeside
from star_pipeline_tests.conftest import say, seed_rows
from star_pipeline_tests.tiny_models import save_model

REAL = ("fastchat/mt_bench_question.jsonl", "fastchat/vicuna_bench_question.jsonl", "wizardlm/WizardLM_testset.jsonl")
INNOCENT = 24
_ANSWER = re.compile(r"\[Start of \w+ [AB]'s Answer\]\n(.*?)\n\[End of", re.DOTALL)


def questions(paths):
    rows = [json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines() if line.strip()]
    return sorted({turn for row in rows for turn in row.get("turns", [row.get("Instruction")])})


def agents(asked):
    """What the agents say of innocent seeds is often a question: a rewriter's of every third, an answer of agent a of others."""
    long = [text for text in asked if len(words(text)) >= LENGTH]

    def reply(request):
        said = request.messages[-1].content
        if request.template.startswith("judge"):
            first, second = (zlib.crc32(answer.encode()) for answer in _ANSWER.findall(said))
            return "[A]" if first > second else "[B]"
        found = re.search(r"topic (\d+)", said)
        number = int(found[1]) if found else -1
        if request.template.startswith("rewrite") and number % 3 == 0:
            return long[number]
        if request.template.startswith("respond") and request.agent == "a" and number % 3 == 1:
            return f"Gladly. {long[number]}"
        return say(request)

    return reply


def texts(value):
    """Every text within a record."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inner for text in texts(one)]


class Leaks:
    """The questions, to look for in a file: a long one's words in a row, a short one as a text of its own."""

    def __init__(self, asked):
        split = [words(text) for text in asked]
        self.runs = {
            tuple(one[n : n + LENGTH]) for one in split if len(one) >= LENGTH for n in range(len(one) - LENGTH + 1)
        }
        self.short = {tuple(one) for one in split if len(one) < LENGTH}

    def found(self, path):
        count = 0
        for line in path.read_text("utf-8").splitlines():
            for text in texts(json.loads(line)):
                said = words(text)
                runs = (tuple(said[n : n + LENGTH]) for n in range(len(said) - LENGTH + 1))
                count += tuple(said) in self.short or any(run in self.runs for run in runs)
        return count


@pytest.fixture(scope="module")
def side(shared_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("decontaminated")
    paths = [shared_data(name) for name in REAL]
    asked = questions(paths)
    made = Lakeside(folder)
    made.ease, made.paths, made.leaks = 2.0, paths, Leaks(asked)
    made.configure(sampling={"pairs_per_seed": 4, "from_memory": 0, "shard_size": 1000})
    made.seeds([*seed_rows(INNOCENT), *({"instruction": text, "output": "An answer."} for text in asked[::12])])
    made.run(agents(asked))
    made.target = save_model(folder / "model", "qwen2", ["Explain the topic. It is so."] * 3, hidden=16, layers=1)
    return made


def exported(side, folder):
    """(what was written, leaks in it) of every form and every recipe."""
    folder.mkdir()
    leaks, outcomes = {}, {}
    for form in FORMS:
        outcomes[form] = export(side.lake, form, str(folder / f"{form}.jsonl"), with_reversed=True)
        leaks[form] = side.leaks.found(folder / f"{form}.jsonl")
    for trainer in RECIPES:
        export_recipe(side.lake, trainer, str(folder / trainer), str(side.target))
        leaks[trainer] = side.leaks.found(folder / trainer / "train.jsonl")
    return outcomes, leaks


def test_no_real_question_reaches_any_form_or_recipe(side, tmp_path):
    _, before = exported(side, tmp_path / "before")
    assert all(before.values()), "without dataset.decontaminate they are there"
    side.configure(
        sampling={"pairs_per_seed": 4, "from_memory": 0, "shard_size": 1000},
        dataset={"decontaminate": list(map(str, side.paths))},
    )
    outcome = side.run()
    assert (outcome.published, side.asked) == (True, 0)
    outcomes, after = exported(side, tmp_path / "after")
    assert set(after.values()) == {0}, after
    rows = side.lake.read_table(tables.STAR_DATASET)
    left_out = {row.seed_id for row in side.lake.read_table(tables.LEFT_OUT_ROWS)}
    assert len(rows) > INNOCENT / 3
    assert outcomes["preference"].records > 3
    barred = read_manifest(side.lake)["not_in_pairs"]
    [shard] = side.lake.shards_of(tables.CANDIDATES)
    owner = {row.candidate_id: row.seed_id for row in side.lake.read_table(tables.CANDIDATES, shard)}
    assert barred
    assert not left_out & {owner[name] for name in barred}
    assert all(text.startswith("it shares with ") for text in barred.values())
    assert side.run().idle


def test_pairs_of_texts_that_were_not_looked_through_are_not_exported(side, tmp_path):
    side.configure(
        sampling={"pairs_per_seed": 4, "from_memory": 0, "shard_size": 1000},
        dataset={"decontaminate": list(map(str, side.paths))},
    )
    side.run()
    told = side.lake.dataset_manifest.read_bytes()
    manifest = json.loads(told)
    del manifest["not_in_pairs"]
    side.lake.write_bytes(side.lake.dataset_manifest, json.dumps(manifest).encode())
    with pytest.raises(LakeError, match=r"an earlier version wrote it, .* make it again: star-pipeline run"):
        export(side.lake, "kto", str(tmp_path / "kto.jsonl"))
    assert export(side.lake, "messages", str(tmp_path / "rows.jsonl")).records
    assert side.run().published
    assert read_manifest(side.lake)["not_in_pairs"] == json.loads(told)["not_in_pairs"]
    # another file of the shard, as after a run whose publishing was stopped
    manifest = json.loads(told)
    manifest["shards"][0]["tables"]["candidates"]["sha256"] = "0" * 64
    side.lake.write_bytes(side.lake.dataset_manifest, json.dumps(manifest).encode())
    with pytest.raises(LakeError, match="shard not done, or just being made again"):
        export(side.lake, "preference", str(tmp_path / "dpo.jsonl"))
    side.lake.write_bytes(side.lake.dataset_manifest, told)
