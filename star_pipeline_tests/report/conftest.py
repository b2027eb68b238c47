"""A finished lake whose texts are as unkind to a web page as texts can be, made once for all tests of the report."""

import json

import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.commands.run import run_pipeline
from star_pipeline.core.errors import CallError
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline_tests.conftest import CONFIG, fake_resources, say, seed_rows

UNKIND = [
    "</script><script>window.hacked = 'script'</script>",
    "<img src=x onerror=\"window.hacked = 'image'\"> & <b>bold</b> &lt;already&gt;",
    "one\u2028two\u2029three\u0085four \u202egnitfihs\u202c left",
    "nothing\u0000after, a bell\u0007, a tab\there",
    "{{ 7 * 7 }} {% raw %} ${window.hacked = 'template'} `backticks` \\u003c",
    "<!-- <script> --!> ]]> 'single' \"double\"",
    "مرحبا بالعالم, 你好，世界, 👩‍👩‍👧‍👦",
    "wide " * 6000,
]
NAME = "<img src=x onerror=window.hacked='source'>&\"quoted\".json"


def answer(request):
    """A fake agent that quotes what it is asked, and of one topic fails."""
    if "topic 7 " in request.messages[-1].content and not request.template.startswith("judge"):
        raise CallError("timeout", "no answer in 60 s from <b>the server</b>")
    return say(request)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The lake after ``run``: 20 seeds in three shards, eight of them unkind."""
    folder = tmp_path_factory.mktemp("report")
    config = folder / "config.yaml"
    config.write_text(json.dumps({**CONFIG, "sampling": {"pairs_per_seed": 2, "from_memory": 1, "shard_size": 7}}))
    lake = Lake.at(folder / "lake")
    lake.prepare()
    rows = [{"instruction": f"{text}\nWhat is said here?", "output": text} for text in UNKIND]
    lake.write_bytes(lake.seeds / NAME, json.dumps([*rows, *seed_rows(12)]).encode())
    fakes = fake_resources(
        SettingsResource(config=str(config)), LakeResource(root=str(lake.root)), script=answer, ease=0.5
    )
    run_pipeline(str(config), lake, [], SilentProgress(), fakes)
    return lake
