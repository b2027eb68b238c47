"""``star-pipeline report``: where the page goes, and what stands in its way."""

import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.commands.report import write_report
from star_pipeline.core.errors import ConfigError, LakeError
from star_pipeline.inspection.build import build_inspection
from star_pipeline_tests.commands.test_cli import mistake
from star_pipeline_tests.program import star


@pytest.fixture
def lake(tmp_path):
    made = Lake.at(tmp_path / "lake")
    made.prepare()
    build_inspection(made)
    return made


def test_the_page_goes_to_the_lake_to_a_file_or_into_a_folder(lake, tmp_path):
    said = star("report", "--lake", lake.root)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith(f"{lake.report} (")
    assert "0 of 0 seeds" in said.stdout
    page = lake.report.read_bytes()
    assert page.startswith(b"<!doctype html>")
    (tmp_path / "folder").mkdir()
    for given, there in (("new/my.html", "new/my.html"), ("folder", "folder/report.html")):
        path, _ = write_report(lake, str(tmp_path / given), 10)
        assert path == str(tmp_path / there)
        assert (tmp_path / there).read_bytes() == page


def test_a_user_s_mistakes_end_as_one_line(lake, tmp_path):
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text("precious")
    cases = [
        (("--output", seeds), 2, ".html"),
        (("--samples", "-1"), 2, "--samples"),
        (("--lake", tmp_path / "nowhere"), 1, "star-pipeline run --lake"),
        (("--output", seeds / "x.html"), 1, "cannot write"),
    ]
    for arguments, code, words in cases:
        found, line = mistake("report", "--lake", lake.root, *arguments)
        assert (found, words in line) == (code, True), line
    assert seeds.read_text() == "precious"


def test_a_lake_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(LakeError):
        write_report(Lake.at(tmp_path / "nowhere"), None, 10)
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(ConfigError, match=r"ends in \.html"):
        write_report(Lake.at(tmp_path), str(tmp_path / "notes.txt"), 10)
