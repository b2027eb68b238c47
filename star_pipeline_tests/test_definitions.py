"""The definitions as Dagster and its users see them."""

import subprocess
import sys
import tempfile

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from star_pipeline.core.tables import TABLES
from star_pipeline.defs.asset_factory import lake_asset
from star_pipeline.defs.assets import ALL_ASSETS, LOOP_ASSETS
from star_pipeline.defs.build import build_defs
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline.defs.scope import Presentation, Scope

GRAPH = build_defs().resolve_asset_graph()
FLOW = {
    "seed_catalog": set(),
    "shard_manifest": {"seed_catalog"},
    "seed_shards": {"shard_manifest"},
    "sampling_plan": {"seed_shards", "prior_state"},
    "candidates": {"seed_shards", "sampling_plan"},
    "ifd_scores": {"seed_shards", "candidates"},
    "judge_verdicts": {"seed_shards", "candidates", "ifd_scores"},
    "composite_scores": {"seed_shards", "sampling_plan", "candidates", "ifd_scores", "judge_verdicts"},
    "memory_bank": {"composite_scores", "candidates"},
    "agent_pair_probabilities": {"seed_shards", "sampling_plan", "composite_scores", "memory_bank"},
    "task_domains": {"seed_catalog", "seed_shards", "candidates", "ifd_scores", "composite_scores", "memory_bank"},
    "star_dataset": {
        "task_domains",
        "seed_catalog",
        "seed_shards",
        "sampling_plan",
        "candidates",
        "ifd_scores",
        "judge_verdicts",
        "composite_scores",
        "agent_pair_probabilities",
    },
    "report": {"inspection"},
    "study_models": {"study_arms"},
    "study_results": {"study_arms", "study_models"},
}


def test_definitions_load_fast_without_the_heavy_libraries_and_leave_the_process_as_it_is():
    code = (
        "import gc, sys; before = gc.get_threshold(); import star_pipeline.definitions; assert gc.get_threshold() == before; "
        "names = ('torch', 'transformers', 'trl', 'peft', 'lancedb', 'litellm', 'sentence_transformers', 'duckdb', 'altair', "
        "'vl_convert', 'obstore', 'psycopg2', 'dagster_postgres', 'ray'); "
        "print([name for name in names if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


@pytest.mark.parametrize(("name", "parents"), FLOW.items())
def test_each_asset_is_made_from_what_the_design_says(name, parents):
    assert {key.path[-1] for key in GRAPH.get(dg.AssetKey(name)).parent_keys} == parents


def test_there_is_no_cycle_and_the_feedback_comes_in_from_outside():
    order = [key.path[-1] for key in GRAPH.toposorted_asset_keys]
    assert len(order) == len(set(order)) == len(ALL_ASSETS) + 3 + 2  # of the study that the offline profile has
    for name in ("prior_state", "shard_manifest"):
        node = GRAPH.get(dg.AssetKey(name))
        assert (node.is_external, node.is_partitioned) == (True, True)
    assert GRAPH.get(dg.AssetKey("prior_state")).parent_keys == set()


def test_every_asset_can_be_used_by_somebody_who_never_saw_the_code():
    for key in GRAPH.get_all_asset_keys():
        node = GRAPH.get(key)
        assert len(node.description or "") > 60, key
        assert node.group_name != "default"
        assert node.kinds
        if key.path[-1] in TABLES and node.is_materializable:
            columns = node.metadata["dagster/column_schema"].columns
            assert [column.name for column in columns] == [c.name for c in TABLES[key.path[-1]].columns]
            assert all(column.description for column in columns)


def test_loop_assets_share_the_pool_and_backfill_in_key_order():
    for asset in LOOP_ASSETS:
        node = GRAPH.get(dg.AssetKey(asset.name))
        assert node.pools == {Scope().pool}
        assert node.backfill_policy is None


def test_an_override_takes_a_resources_place():
    class Marked(dg.ConfigurableResource):
        pass

    assert isinstance(build_defs({"chat": Marked()}).resources["chat"], Marked)


def test_environment_names_config_and_lake(monkeypatch, tmp_path):
    monkeypatch.setenv("STAR_CONFIG", "paper")
    monkeypatch.setenv("STAR_LAKE", str(tmp_path / "x"))
    resources = build_defs().resources
    assert (resources["settings"].config, resources["lake"].root) == ("paper", str(tmp_path / "x"))


def test_every_column_of_the_final_data_set_tells_where_it_comes_from():
    from star_pipeline.core.tables import STAR_DATASET, TABLES
    from star_pipeline.defs.assets.star_dataset import _column_lineage

    lineage = _column_lineage(Scope()).deps_by_column
    assert list(lineage) == list(STAR_DATASET.schema.names)
    for origins in lineage.values():
        for origin in origins:
            assert origin.column_name in TABLES[origin.asset_key.path[-1]].schema.names


@pytest.mark.parametrize(("version", "status"), [(None, StaleStatus.FRESH), ("2", StaleStatus.STALE)])
def test_a_changed_equation_and_nothing_else_puts_what_was_made_before_it_out_of_date(version, status):
    def made_by(version):
        @lake_asset("numbers", "3_evaluate", "Numbers.", partitioned=False, locked=False, code_version=version)
        def numbers(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[None]:
            return dg.MaterializeResult(data_version=dg.DataVersion("same"))

        return numbers.build(Scope(), Presentation())

    with dg.DagsterInstance.ephemeral() as instance, tempfile.TemporaryDirectory() as folder:
        settings = SettingsResource(config="offline")
        resources = {"lake": LakeResource(root=folder), "settings": settings, "io_manager": dg.mem_io_manager}
        assert dg.materialize([made_by(None)], instance=instance, resources=resources).success
        graph = dg.Definitions([made_by(version)], resources=resources).resolve_asset_graph()
        resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        assert resolver.get_status(dg.AssetKey("numbers")) == status
