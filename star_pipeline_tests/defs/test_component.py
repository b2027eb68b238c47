"""``StarAgents`` in a team's own project: several lakes in one code location and one instance, and nothing of them collides."""

import json
import re

import dagster as dg
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox

from star_pipeline import StarAgents
from star_pipeline.adapters.lake import Lake
from star_pipeline.core import tables
from star_pipeline.defs.build import build_defs
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline.defs.scope import Scope
from star_pipeline_tests.conftest import CONFIG, fake_resources, seed_rows

SHARD, OTHER = "000001-seeds", {**CONFIG, "sampling": {**CONFIG["sampling"], "seed": 7}}
MADE = (tables.SAMPLING_PLAN, tables.CANDIDATES, tables.COMPOSITE_SCORES, tables.AGENT_PAIR_PROBABILITIES)


def lake_of(folder, config, prefix=()):
    """Definitions of a lake with fakes for LLMs and models, and eight seeds: two shards."""
    lake = Lake.at(folder)
    lake.write_bytes(lake.seeds / "seeds.json", json.dumps(seed_rows(8)).encode())
    fakes = fake_resources(SettingsResource.of(config), LakeResource(root=str(lake.root)))
    return lake, build_defs(fakes, config, str(lake.root), prefix)


def process(defs, instance, scope):
    for job, shard in (("take_in_seeds", None), ("process_shard", SHARD)):
        job_def = defs.resolve_job_def(scope.name(job))
        assert job_def.execute_in_process(instance=instance, partition_key=shard).success


def results(lake):
    return [
        lake.read_arrow(spec, SHARD, [c.name for c in spec.columns if c.name not in ("latency_s", "created_at")])
        for spec in MADE
    ]


def test_two_lakes_in_one_instance_make_what_each_makes_alone(tmp_path):
    configs = {"pythia": CONFIG, "second": OTHER}
    lakes = {name: lake_of(tmp_path / name, config, [name]) for name, config in configs.items()}
    merged = dg.Definitions.merge(*(defs for _, defs in lakes.values()))
    dg.Definitions.validate_loadable(merged)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as shared:
        for name, (lake, _) in lakes.items():
            process(merged, shared, Scope((name,)))
            assert shared.get_dynamic_partitions(f"{name}_seed_shards") == [SHARD, "000002-seeds"]
            assert shared.get_latest_materialization_event(dg.AssetKey([name, "memory_bank"]))
            assert not lake.has_table(tables.CANDIDATES, "000002-seeds")
        assert shared.get_dynamic_partitions("seed_shards") == []
    made = {name: results(lake) for name, (lake, _) in lakes.items()}
    assert made["pythia"] != made["second"]
    for name, config in configs.items():
        lake, defs = lake_of(tmp_path / f"{name}_alone", config)
        with dg.DagsterInstance.ephemeral() as own:
            process(defs, own, Scope())
        assert results(lake) == made[name]


@pytest.fixture
def project():
    with create_defs_folder_sandbox() as sandbox:
        yield sandbox


def add(project, name, **attributes):
    folder = project.defs_folder_path / name
    folder.mkdir(parents=True)
    said = {"type": "star_pipeline.StarAgents", "attributes": attributes}
    (folder / "defs.yaml").write_text(yaml.safe_dump(said))
    return folder


def loaded(project):
    with project.build_all_defs() as defs:
        return {key.to_user_string(): key for key in defs.resolve_asset_graph().get_all_asset_keys()}, defs


def test_yaml_takes_a_profile_a_file_or_settings_and_a_prefix_as_text_or_list(project):
    file = add(project, "file", config="star.yaml", lake="lakes/file", prefix="of_file")
    (file / "star.yaml").write_text(json.dumps({**CONFIG, "ui": {"owners": ["team:data"], "fresh_within_hours": 24}}))
    study = {"lakes": {"other": "other_lake"}, "evaluate": {"held_out": ["asked.json"]}}
    prompted = {**CONFIG, "prompts": {"own": "own.jinja"}, "journal": "journal", "study": study}
    inline = add(project, "inline", config=prompted, lake="lakes/inline", prefix=["teams", "inline"])
    (inline / "asked.json").write_text("[]")
    (inline / "own.jinja").write_text("{{ instruction }}")
    add(project, "profile", config="offline", lake="lakes/profile")
    keys, defs = loaded(project)
    assert {"of_file/star_dataset", "teams/inline/star_dataset", "star_dataset"} <= set(keys)
    graph = defs.resolve_asset_graph()
    published, other = graph.get(keys["of_file/star_dataset"]), graph.get(keys["star_dataset"])
    assert (published.owners, other.owners) == (["team:data"], [])
    assert published.freshness_policy_or_from_metadata
    assert not other.freshness_policy_or_from_metadata
    names = {job.name for job in defs.resolve_all_job_defs()}
    assert {"of_file_publish", "teams_inline_publish", "publish"} <= names
    settings = defs.get_repository_def().get_top_level_resources()["teams_inline_settings"]
    told = json.loads(settings.config_schema.default_value["config"])
    assert told["journal"] == str(inline / "journal")
    assert told["study"]["lakes"] == {"other": str(inline / "other_lake")}
    assert told["study"]["evaluate"]["held_out"] == [str((inline / "asked.json").resolve())]
    assert "teams/inline/study_models" in keys
    assert "teams_inline_study" in names


@pytest.mark.parametrize(
    ("first", "second", "line"),
    [
        ({"lake": "a", "prefix": "x"}, {"lake": "a", "prefix": "y"}, "belongs to another StarAgents component"),
        ({"lake": "a", "prefix": "x"}, {"lake": "b", "prefix": ["x"]}, "another StarAgents component has prefix x"),
        (
            {"lake": "a", "prefix": ["x", "y"]},
            {"lake": "b", "prefix": "x_y"},
            "another StarAgents component has prefix",
        ),
        ({"lake": "a"}, {"lake": "b"}, "another StarAgents component has no prefix"),
        ({"lake": "a", "config": "star.yaml"}, {"lake": "b", "prefix": "y"}, "no configuration '.*star.yaml'"),
        (
            {"lake": "a", "config": {**CONFIG, "judge": {}}},
            {"lake": "b", "prefix": "y"},
            "configuration: judge: agent: expected either",
        ),
    ],
)
def test_what_cannot_stand_side_by_side_is_said_in_a_line_that_names_the_component(project, first, second, line):
    add(project, "first", **first)
    add(project, "second", **second)
    with pytest.raises(Exception, match="Error while building definitions") as raised, project.build_all_defs():
        pass
    error = raised.value
    while not isinstance(error, dg.DagsterInvalidDefinitionError) and error.__cause__:
        error = error.__cause__
    assert re.search(line, str(error))
    assert "defs/first" in str(error) or "defs/second" in str(error)
    assert len(str(error).splitlines()) == 1


def test_it_is_registered_for_dg_under_its_public_name():
    assert StarAgents.get_spec().tags
    assert f"{StarAgents.__module__}.{StarAgents.__name__}" == "star_pipeline.defs.component.StarAgents"
