"""Scoring on a real Ray cluster of two nodes: the local scorer's bytes, whoever is lost meanwhile."""

import dataclasses
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import lancedb
import pytest
from pydantic import ValidationError

from star_pipeline.adapters.embedder import open_embedder
from star_pipeline.adapters.lake import Lake, content_hash
from star_pipeline.adapters.memory import TABLE
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.adapters.scoring import open_scorer, scorer_of
from star_pipeline.commands.calibrate import run_calibration
from star_pipeline.commands.run import run_pipeline
from star_pipeline.config import StarConfig
from star_pipeline.config.models import MemoryConfig
from star_pipeline.config.scoring import ScoringConfig
from star_pipeline.core.equations.ifd import score_samples
from star_pipeline.core.errors import ConfigError, ModelError
from star_pipeline.core.tables import IFD_SCORES, SEED_CATALOG, SHARD_TABLES, STAR_DATASET, TASK_DOMAINS
from star_pipeline_tests.adapters.scoring.test_local import SAMPLES, TEXTS
from star_pipeline_tests.commands.test_calibrate import answers, configured, faithful
from star_pipeline_tests.integration.test_run_against_a_server import STARTER, configuration, scripted
from star_pipeline_tests.llm_server import chat_server
from star_pipeline_tests.tiny_models import save_gpt_neox

pytest.importorskip("ray", reason="the extra ray is not installed")

from star_pipeline.adapters.scoring.replicas import cluster, pool
from star_pipeline.adapters.scoring.replicas.replica import EmbeddingModel
from star_pipeline.adapters.scoring.replicas.scorer import RayScorer
from star_pipeline_tests.ray_nodes import ray_nodes

pytestmark = pytest.mark.slow
EMBEDDING = MemoryConfig().embedding
INSTRUCTIONS = [json.loads(line)["instruction"] for line in STARTER.read_text("utf-8").splitlines()]
MANY = [
    dataclasses.replace(sample, instruction=f"{sample.instruction} {number}")
    for number in range(12)
    for sample in SAMPLES
]
FITTING = [sample for sample in MANY if sample.response and len(sample.instruction + sample.response) < 200]
GROUPS = [20, 1, len(FITTING) - 21]
"""As a lag forms batches over several seeds' samples."""


class Told(SilentProgress):
    """Keeps notes; calls ``at_first`` once, when the first batch is back."""

    def __init__(self, at_first=lambda: None):
        self.notes, self._at_first = [], at_first

    def note(self, text):
        self.notes.append(text)

    def advance(self, count=1):
        act, self._at_first = self._at_first, lambda: None
        act()


@pytest.fixture(scope="module")
def nodes():
    with ray_nodes() as running:
        yield running
        pool.close_all()
        cluster.leave()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    sizes = {"small": 32, "large": 48}
    return {name: str(save_gpt_neox(folder / name, TEXTS, 3, width, 2, context=256)) for name, width in sizes.items()}


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """One whose scores are computed with one thread, so that a replica fits a node."""
    made = Lake.at(tmp_path_factory.mktemp("lake"))
    made.numerics.write_text(json.dumps({"dtype": "float32", "device": "cpu", "threads": 1, "linear": "default"}))
    return made


def opened(source, lake, told=None, nodes=None, **ray):
    """The scorer on the nodes, or without them the local one; ``ray`` are further settings."""
    engine = {"engine": "ray", "ray": {"address": nodes.address, "gpus": 0} | ray} if nodes else {}
    given = {"small": source, "large": source, "template": "plain", "max_length": 128, "batch_tokens": 256, **engine}
    return open_scorer(source, ScoringConfig(**given), lake, told or Told())


def losses(scorer, groups=None):
    return scorer.losses(FITTING, [len(sample.response) for sample in FITTING], None, groups)


def embedder_of(lake, nodes=None, told=None):
    """The embedder of a configuration that scores on the nodes, or without them the local one."""
    engine = {"engine": "ray", "ray": {"address": nodes.address, "gpus": 0}} if nodes else {}
    scoring = ScoringConfig(small="s", large="l", **engine)
    config = StarConfig.model_construct(scoring=scoring, memory=MemoryConfig())
    return open_embedder(config, lake, told or Told())


@pytest.fixture(scope="module")
def vectors(lake):
    return embedder_of(lake).embed(INSTRUCTIONS).tobytes()


@pytest.fixture(scope="module")
def expected(models, lake):
    """The local scorer's, of all samples at once and in groups."""
    local = opened(models["small"], lake)
    return losses(local), losses(local, GROUPS)


def on_nodes(nodes):
    return {"engine": "ray", "ray": {"address": nodes.address, "gpus": 0}}


def lake_at(path, like):
    """A new lake that computes as another does."""
    made = Lake.at(path)
    made.root.mkdir(parents=True)
    made.numerics.write_bytes(like.numerics.read_bytes())
    return made


def test_where_there_is_not_room_enough_it_says_what_was_asked_and_what_there_is(nodes, models, lake, tmp_path):
    with pytest.raises(ModelError, match=r"asked for 40 replicas of 1 CPUs; the cluster has 0 GPUs and 2 CPUs on \d"):
        losses(opened(models["small"], lake, nodes=nodes, replicas=40))
    with pytest.raises(ModelError, match=r"scoring.ray.gpus: 1, and the lake's scores are computed on cpu"):
        opened(models["small"], lake, nodes=nodes, gpus=1)
    fresh = Lake.at(tmp_path)
    with pytest.raises(ModelError, match=r"asked for a replica of 1 GPU and 1 CPU; the cluster has 0 GPUs"):
        losses(opened(models["small"], fresh, nodes=nodes, gpus=1))
    with pytest.raises(ModelError, match=r"scoring.ray.cpus: 3, and the lake's scores are computed with 1 threads"):
        opened(models["small"], lake, nodes=nodes, cpus=3)
    with pytest.raises(ValidationError, match=r"device: cuda:0, and replicas have ray.gpus"):
        ScoringConfig(small="s", large="l", engine="ray", device="cuda:0")


def has_the_local_scorers_bytes(nodes, models, lake, expected):
    def table(**where):
        rows = score_samples(MANY, *(lambda name=name: opened(models[name], lake, **where) for name in models))
        return IFD_SCORES.to_arrow([dataclasses.replace(row, candidate_id=str(n)) for n, row in enumerate(rows)])

    assert table(nodes=nodes).equals(table())
    scorer = opened(models["small"], lake, nodes=nodes)
    assert (losses(scorer), losses(scorer, GROUPS)) == expected
    assert len(scorer.prepare()) == len(nodes.nodes)


def test_two_replicas_give_the_local_scorers_bytes_and_so_they_do_for_the_batches_that_a_lag_forms(
    nodes, models, lake, expected
):
    has_the_local_scorers_bytes(nodes, models, lake, expected)


def test_a_run_on_two_nodes_leaves_the_tables_of_a_local_one(nodes, models, lake, tmp_path):
    rows = STARTER.read_text("utf-8").splitlines()[:66]
    (tmp_path / "seeds.jsonl").write_text("\n".join(rows))
    scoring = {**models, "template": "plain", "max_length": 256, "batch_tokens": 512}
    sampling = {"pairs_per_seed": 2, "from_memory": 1, "shard_size": 33}
    local, remote = lake_at(tmp_path / "local", lake), lake_at(tmp_path / "remote", lake)
    with chat_server(scripted) as server:
        for one, engine in ((local, {}), (remote, on_nodes(nodes))):
            config = configuration(tmp_path, server.url, sampling=sampling, scoring=scoring | engine)
            run_pipeline(str(config), one, [str(tmp_path / "seeds.jsonl")], SilentProgress())
    probes = json.loads(remote.numerics.read_text())["probes"]
    assert len(probes) == 3
    assert f"embedding {EMBEDDING}" in probes
    for spec in SHARD_TABLES:
        assert len(local.shards_of(spec)) == 2
        for shard in local.shards_of(spec):
            there, here = remote.read_arrow(spec, shard), local.read_arrow(spec, shard)
            assert content_hash(there) == content_hash(here), spec.name
    for spec in (SEED_CATALOG, TASK_DOMAINS, STAR_DATASET):
        assert content_hash(remote.read_arrow(spec)) == content_hash(local.read_arrow(spec)), spec.name
    banks = [lancedb.connect(str(one.memory_bank)).open_table(TABLE).to_arrow() for one in (local, remote)]
    of_each = [bank.sort_by("candidate_id")["vector"].to_pylist() for bank in banks]
    assert of_each[0] == of_each[1] != []


def test_calibrate_finds_what_it_finds_locally(nodes, models, lake, tmp_path):
    found = []
    with chat_server(answers(faithful)) as server:
        for name, engine in (("local", {}), ("remote", on_nodes(nodes))):
            scoring = {**models, "template": "plain", "max_length": 200, **engine}
            (tmp_path / f"of_{name}").mkdir()
            config = configured(tmp_path / f"of_{name}", tmp_path, server.url, scoring=scoring)
            home, seeds = lake_at(tmp_path / name, lake), [str(tmp_path / f"of_{name}" / "seeds.json")]
            found.append(run_calibration(config, home, seeds, 6, SilentProgress()))
    figures = [{(row.name, row.measure): row.figure for row in rows if row.subject == "scoring"} for rows in found]
    assert figures[0] == figures[1] != {}


def test_what_a_study_scores_is_scored_there_too(nodes, models, lake):
    def found(**engine):
        scoring = ScoringConfig(small="s", large="l", template="plain", max_length=128, batch_tokens=256, **engine)
        rest = {"template": "plain", "start": "token", "weights": "tuned", "alone": False}
        scorer = scorer_of(models["small"], scoring, lake.numerics, Told(), **rest)
        return type(scorer), [one.nll_given for one in losses(scorer)]

    assert found(**on_nodes(nodes)) == (RayScorer, found()[1])


def test_a_run_that_is_stopped_leaves_the_replicas_fit_for_the_next(nodes, models, lake, expected):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        losses(opened(models["small"], lake, Told(stop), nodes))
    assert losses(opened(models["small"], lake, nodes=nodes)) == expected[0]


def test_a_replica_that_is_killed_gives_its_batches_to_the_other_and_is_replaced_for_the_next_shard(
    nodes, models, lake, expected
):
    scorer = opened(models["small"], lake, nodes=nodes)
    assert len(scorer.prepare()) == 2
    victim = scorer._pool.processes()[0]
    told = Told(lambda: os.kill(victim, signal.SIGKILL))
    killed = opened(models["small"], lake, told, nodes)
    assert losses(killed) == expected[0]
    assert [note for note in told.notes if "is gone: its batches go to others" in note]
    assert losses(killed) == expected[0]
    assert len(killed.prepare()) == 2
    assert victim not in killed._pool.processes()


def test_two_replicas_embed_as_this_process_does_also_where_one_is_killed(nodes, lake, vectors):
    told = Told()
    embedder = embedder_of(lake, nodes, told)
    assert len(embedder.prepare()) == 2
    assert embedder.embed(INSTRUCTIONS).tobytes() == vectors
    os.kill(embedder._pool().processes()[0], signal.SIGKILL)
    assert embedder.embed(INSTRUCTIONS).tobytes() == vectors
    assert [note for note in told.notes if "is gone: its batches go to others" in note]


def test_while_replicas_score_this_process_embeds(nodes, lake, vectors):
    embedder = embedder_of(lake, nodes)
    with ThreadPoolExecutor(1) as other, embedder._pool().turn:
        assert other.submit(embedder.embed, INSTRUCTIONS).result().tobytes() == vectors


def test_a_node_that_is_killed_gives_its_batches_to_the_other_which_goes_on_alone(
    nodes, models, lake, expected, vectors
):
    scorer = opened(models["small"], lake, nodes=nodes)
    assert len(scorer.prepare()) == 2
    told = Told(lambda: nodes.kill(nodes.nodes[-1]))
    assert losses(opened(models["small"], lake, told, nodes)) == expected[0]
    assert len(told.notes) == 1
    # and what one replica computes alone
    has_the_local_scorers_bytes(nodes, models, lake, expected)
    assert embedder_of(lake, nodes).embed(INSTRUCTIONS).tobytes() == vectors


def test_a_node_of_another_instruction_set_is_refused_by_name_unless_a_difference_is_allowed(
    nodes, models, lake, expected
):
    import torch

    if torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2"):
        pytest.skip("this processor has no instruction set beyond AVX2 that could be left out")
    other = nodes.add({"ATEN_CPU_CAPABILITY": "avx2"})
    allowed = opened(models["small"], lake, nodes=nodes, tolerance=1e-3)
    assert len(allowed.prepare()) == 2
    for found, local in zip(losses(allowed), expected[0], strict=True):
        assert found.nll_given == pytest.approx(local.nll_given, abs=1e-3)
    [kept] = [of for of in json.loads(lake.numerics.read_text())["probes"].values() if "difference" in of]
    assert 0 < kept["difference"] < 1e-3
    seat = next(seat for seat in allowed._pool._seats if seat.machine.node_id == other.node_id)
    embeds = cluster.need_ray().get(seat.actor.load.remote(EmbeddingModel(EMBEDDING)))
    assert "computes other vectors than the lake's under memory.embedding" in embedder_of(lake, nodes)._refusal(embeds)
    told = Told()
    strict = opened(models["small"], lake, told, nodes)
    assert len(strict.prepare()) == 1
    [line] = told.notes
    assert line.startswith("no scoring on ")
    assert f"node {other.node_id[:8]}): computes other values than the lake's" in line
    assert "allowed is no bit" in line
    assert losses(strict) == expected[0]


def test_a_node_whose_model_has_other_files_is_named(nodes, models, lake, tmp_path):
    source = str(save_gpt_neox(tmp_path / "m", TEXTS, 3, 32, 2, context=256))
    told = Told()
    scorer = opened(source, lake, told, nodes)
    save_gpt_neox(tmp_path / "m", TEXTS, 4, 32, 2, context=256)
    with pytest.raises(ModelError, match="no machine of the cluster can score: "):
        losses(scorer)
    [line] = told.notes
    assert re.search(r"^no scoring on .*node \w{8}\): scoring model .* is sha256:\w+ there", line)


DRIVER = """
import json, sys
from star_pipeline.adapters.lake import Lake
from star_pipeline.core.errors import ModelError
from star_pipeline_tests.adapters.scoring.test_replicas import Told, losses, opened

class Nodes:
    address = sys.argv[1]

def begun():
    print("begun", flush=True)
    sys.stdin.readline()

try:
    losses(opened(sys.argv[2], Lake.at(sys.argv[3]), Told(begun), Nodes, replicas=1))
except ModelError as error:
    print(error)
    sys.exit(1)
"""


def test_where_the_whole_cluster_is_gone_one_line_says_so_within_a_minute(nodes, models, lake, monkeypatch):
    pool.close_all()
    cluster.leave()
    given = [sys.executable, "-c", DRIVER, nodes.address, models["small"], str(lake.root)]
    with subprocess.Popen(
        given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout.readline() == "begun\n"
        nodes.kill_all()
        began = time.monotonic()
        said, _ = run.communicate("\n", timeout=60)
    assert time.monotonic() - began < 60
    assert run.returncode == 1
    [line] = said.splitlines()
    assert line.startswith("scoring.engine: ray: ")
    assert "the same command goes on" in line
    with pytest.raises(ModelError, match="nobody answers; expected a Ray cluster's head: ray start --head"):
        losses(opened(models["small"], lake, nodes=nodes))
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    with pytest.raises(ModelError, match=rf"scoring.ray.address auto \({nodes.address}\): nobody answers"):
        losses(opened(models["small"], lake, nodes=nodes, address="auto"))


def test_without_the_extra_one_line_says_how_to_install_it(models, lake, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == "ray" else find(name, *more))
    scoring = ScoringConfig(small=models["small"], large=models["small"], engine="ray", ray={"gpus": 0})
    with pytest.raises(ConfigError, match=r'needs the package ray, .*; pip install "star-pipeline\[ray\]", on every'):
        open_scorer(models["small"], scoring, lake, Told())
