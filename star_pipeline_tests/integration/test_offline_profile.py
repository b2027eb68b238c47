"""The README's Run command's work: the offline profile from nothing to the final data set."""

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.core.tables import STAR_DATASET

pytestmark = pytest.mark.slow


def test_the_offline_profile_makes_a_row_of_every_starter_seed(tmp_path):
    command = [str(Path(sys.executable).with_name("star-pipeline")), "run", "--lake", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert result.returncode == 0, result.stderr
    lake = Lake.at(tmp_path)
    rows = lake.read_table(STAR_DATASET)
    seeds = [json.loads(line) for line in (tmp_path / "seeds" / "starter_seeds.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == len(seeds) >= 150
    assert sum(row.selection == "best" for row in rows) > 0.9 * len(rows)
    multi_turn = [row for row in rows if len(row.messages) > 3]
    assert len(multi_turn) >= 10
    with duckdb.connect(str(lake.inspection), read_only=True) as database:
        query = "SELECT {} FROM pair_leaderboard WHERE pair_id = '{}'"
        value = lambda what, pair: database.execute(query.format(what, pair)).fetchone()[0]  # noqa: E731
        assert value("win_rate", "keep+tutor") > value("win_rate", "keep+rambler") + 0.3
        assert value("probability", "keep+tutor") > 1 / 8 > value("probability", "keep+rambler")
        ifd, positive = database.execute(
            "SELECT avg(ifd_small), avg(CAST(gap > 0 AS INT)) FROM ifd_scores JOIN candidates USING (candidate_id) WHERE pair_id = 'seed'"
        ).fetchone()
        assert ifd < 1
        assert positive > 0.8
        verdicts = dict(database.execute("SELECT verdict, count(*) FROM judge_verdicts GROUP BY 1").fetchall())
        assert verdicts["inconsistent"] < 0.25 * sum(verdicts.values())
