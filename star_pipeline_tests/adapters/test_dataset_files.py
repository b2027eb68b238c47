"""Data, card and manifest on disk: they name one another, and what does not belong together is told."""

import hashlib

import pytest

from star_pipeline.adapters.dataset_files import dataset_problem, is_published, read_manifest, versions, write_dataset
from star_pipeline.adapters.lake import Lake
from star_pipeline.core.errors import LakeError
from star_pipeline.core.tables import STAR_DATASET

TOLD = {"data": {"rows": 3}, "dataset_fingerprint": "d"}


@pytest.fixture
def lake(tmp_path):
    made = Lake.at(tmp_path)
    write_dataset(made, b"data", b"card", TOLD)
    return made


def test_the_manifest_names_both_files_and_nothing_in_it_is_of_the_moment(lake):
    told = read_manifest(lake)
    assert told["data"] == {
        "rows": 3, "file": "star_dataset.parquet", "sha256": hashlib.sha256(b"data").hexdigest(), "bytes": 4,
    }  # fmt: skip  # read as a table
    assert (dataset_problem(lake, told), is_published(lake, "d"), is_published(lake, "other")) == ("", True, False)
    before = lake.dataset_manifest.read_bytes()
    write_dataset(lake, b"data", b"card", TOLD)
    assert lake.dataset_manifest.read_bytes() == before


@pytest.mark.parametrize("last", [0, 1, 2])
def test_a_kill_between_the_files_is_told_whichever_was_the_last(lake, last, monkeypatch):
    written = []

    def write(self, path, data):
        if len(written) > last - 1:
            raise KeyboardInterrupt
        written.append(path)
        path.write_bytes(data)

    monkeypatch.setattr(Lake, "write_bytes", write)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(lake, b"new data", b"new card", TOLD)
    assert is_published(lake, "d") == (last == 0)
    if last:
        assert "its content is not what manifest.json names" in dataset_problem(lake, read_manifest(lake))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"data": 5}', b"\xff"])
def test_a_broken_manifest_is_told_in_one_line_with_the_remedy(lake, content):
    lake.dataset_manifest.write_bytes(content)
    said = dataset_problem(lake, read_manifest(lake))
    assert said.endswith("star-pipeline run")
    assert "\n" not in said
    assert not is_published(lake, "d")


def test_a_file_that_is_gone_is_told(lake):
    lake.table(STAR_DATASET).unlink()
    assert "star_dataset.parquet is not there" in dataset_problem(lake, read_manifest(lake))


def test_versions_are_those_that_are_installed():
    assert {"python", "star-pipeline", "pyarrow", "torch"} <= set(versions())


def test_a_folder_that_cannot_be_written_is_a_lake_error(tmp_path):
    (tmp_path / "star_dataset").write_text("in the way")
    with pytest.raises(LakeError, match="cannot write"):
        write_dataset(Lake.at(tmp_path), b"d", b"c", TOLD)
