"""What we take of Dagster's private names stands in one module, and a Dagster without one of them is told at the start."""

import re
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions import data_version
from dagster._core.storage import tags as dagsters

import star_pipeline
from star_pipeline.core.errors import StarError
from star_pipeline.instance import private, tags

WITHOUT = """
import sys
import dagster._core.remote_origin as module
del module.RemoteJobOrigin
sys.argv = ["star-pipeline", "run", "--lake", sys.argv[1]]
from star_pipeline.cli import main
main()
"""


def test_a_dagster_that_lacks_a_private_name_ends_a_command_in_one_line_that_names_it(tmp_path):
    done = subprocess.run([sys.executable, "-c", WITHOUT, str(tmp_path / "lake")], capture_output=True, text=True)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line == (
        f"star-pipeline: dagster {dg.__version__}: cannot import name 'RemoteJobOrigin' from 'dagster._core.remote_origin'; "
        'expected another release of it, install "dagster>=1.13.5,<1.14"'
    )
    assert not (tmp_path / "lake").exists()


def test_what_a_class_lacks_is_named_and_what_it_sets_for_itself_counts():
    class Another(dg.QueuedRunCoordinator):
        def __init__(self):
            self._set_here = 1

    private.require([(Another, ("submit_run", "_set_here"))])
    with pytest.raises(StarError, match=rf"^dagster {re.escape(dg.__version__)}: Another has no _gone; .*install"):
        private.require([(Another, ("submit_run", "_gone"))])


def test_no_other_module_names_a_private_one_and_the_release_that_is_asked_for_is_the_projects():
    package = Path(star_pipeline.__file__).parent
    named = {path.name for path in package.rglob("*.py") if re.search(r"dagster\._", path.read_text("utf-8"))}
    assert named == {"private.py"}
    assert f"    {private.INSTALL},\n" in (package.parent / "pyproject.toml").read_text("utf-8")
    guide = (package / "guides" / "developing.md").read_text("utf-8")
    assert [name for name in private.__all__ if f"`{name}`" not in guide] == []


def test_the_tags_are_dagsters_own():
    key = dg.AssetKey(["a", "b"])
    assert (tags.PARTITION, tags.BACKFILL) == (dagsters.PARTITION_NAME_TAG, dagsters.BACKFILL_ID_TAG)
    assert (tags.PRIORITY, tags.MAX_RETRIES) == (dagsters.PRIORITY_TAG, dagsters.MAX_RETRIES_TAG)
    assert (tags.WILL_RETRY, tags.AUTO_RETRY_RUN_ID) == (dagsters.WILL_RETRY_TAG, dagsters.AUTO_RETRY_RUN_ID_TAG)
    assert (tags.HIDDEN_PREFIX, tags.REPOSITORY_LABEL) == (dagsters.HIDDEN_TAG_PREFIX, dagsters.REPOSITORY_LABEL_TAG)
    assert (tags.DATA_VERSION, tags.CODE_VERSION) == (data_version.DATA_VERSION_TAG, data_version.CODE_VERSION_TAG)
    assert tags.DATA_VERSION_IS_USER_PROVIDED == data_version.DATA_VERSION_IS_USER_PROVIDED_TAG
    assert tags.input_data_version(key) == data_version.get_input_data_version_tag(key)
    assert tags.input_event_pointer(key) == data_version.get_input_event_pointer_tag(key)
