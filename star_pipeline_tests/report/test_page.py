"""The page as a file: what stands in it, that it loads nothing, and that its numbers are the tables'."""

import base64
import hashlib
import json
import re
from collections import Counter
from itertools import pairwise
from math import sqrt

import dagster as dg
import numpy as np
import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.core import tables
from star_pipeline.core.errors import LakeError
from star_pipeline.inspection.build import build_inspection
from star_pipeline.instance import open_instance
from star_pipeline.report.build import build_report
from star_pipeline_tests.report.conftest import NAME, UNKIND
from star_pipeline_tests.report.page import ReadPage


@pytest.fixture(scope="session")
def html(finished):
    return build_report(finished).html


@pytest.fixture(scope="session")
def page(html):
    return ReadPage(html)


@pytest.fixture(scope="session")
def read(finished):
    """All rows of a table, over the shards in order."""

    def rows(spec):
        if spec not in tables.SHARD_TABLES:
            return finished.read_table(spec)
        return [row for shard in finished.shards_of(spec) for row in finished.read_table(spec, shard)]

    return rows


def test_elements_are_closed_and_ids_are_there_once_and_every_reference_leads_somewhere(page):
    assert page.unclosed == []
    ids = Counter(found["id"] for _, found in page.tags if "id" in found)
    assert set(ids.values()) == {1}
    named = [found["aria-labelledby"] for _, found in page.tags if "aria-labelledby" in found]
    linked = [found["href"][1:] for found in page.all("a") if found["href"].startswith("#")]
    assert len(linked) > 8
    assert {*named, *linked} <= set(ids)


def test_landmarks_headings_and_every_plot_has_words_and_a_table(page):
    for tag in ("header", "main", "footer", "h1"):
        assert len(page.all(tag)) == 1
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.all("a")[0] == {"class": "skip", "href": "#main"}
    plots = [found for found in page.all("div") if found.get("class") == "plot"]
    assert {found["data-figure"] for found in plots} == set(page.specs)
    assert all(found["role"] == "img" and len(found["aria-label"]) > 40 for found in plots)
    figures = page.all("figure")
    assert len(page.all("figcaption")) == len(figures) > 12
    tables_ = [found["aria-label"] for found in page.all("div") if found.get("class") == "scroll"]
    assert len(tables_) == len(plots) + 2  # the lines of health, and the settings


def test_nothing_is_loaded_and_only_the_pages_own_two_scripts_may_run(page, html):
    for _, found in page.tags:
        for name in ("src", "srcset", "poster", "data", "action"):
            assert name not in found
        assert not [name for name in found if name.startswith("on")]
    assert [found["href"] for found in page.all("link")] == ["data:,"]
    assert {found["href"][0] for found in page.all("a")} == {"#"}
    style = re.search(rb"<style>(.*?)</style>", html, re.S)[1]
    assert b"url(" not in style
    assert b"@import" not in style
    [policy] = [found["content"] for found in page.all("meta") if "http-equiv" in found]
    assert "default-src 'none'" in policy
    runnable = ["".join(parts).encode() for found, parts in page.scripts if "type" not in found]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(code).digest()).decode()}'" for code in runnable]
    assert len(hashes) == 2
    assert f"script-src {' '.join(hashes)};" in policy


def test_unkind_texts_are_in_the_samples_whole_and_nowhere_else(page, html):
    responses = {found["response"] for found in page.samples}
    assert set(UNKIND[:-1]) <= responses
    [wide] = [text for text in responses if text.startswith("wide wide")]
    assert wide == UNKIND[-1][:20_000] + "… [10,000 more characters]"
    assert {found["source"] for found in page.samples} == {NAME}
    markup = re.sub(r"<script.*?</script>", "", html.decode(), flags=re.S)
    assert "<img" not in markup
    assert "<b>" not in markup
    assert "&lt;b&gt;the server" in markup


def test_the_samples_are_the_lakes_rows(page, read):
    seeds = {row.seed_id: row for row in read(tables.SEED_SHARDS)}
    made = {(row.seed_id, row.slot): row for row in read(tables.CANDIDATES)}
    scores = {(row.seed_id, row.slot): row for row in read(tables.COMPOSITE_SCORES)}
    assert [found["seed_id"] for found in page.samples] == list(seeds)
    shown = 0
    for found in page.samples:
        for one in found["candidates"]:
            shown += 1
            row, score = made[found["seed_id"], one["slot"]], scores[found["seed_id"], one["slot"]]
            assert (one["pair_id"], one["status"]) == (row.pair_id, row.status)
            assert one["selected"] == score.selected
            assert one.get("pi") == (None if score.pi is None else pytest.approx(score.pi, rel=1e-5))
            if row.response is not None and len(row.response) <= 20_000:
                assert one["response"] == row.response
                assert one.get("instruction", found["instruction"]) == row.instruction or len(row.instruction) > 20_000
    assert shown == len(made)


def test_probabilities_are_the_snapshots(page, read):
    found = {(row["shard"], row["pair_id"]): row["probability"] for row in page.plotted("probabilities")}
    rows = read(tables.AGENT_PAIR_PROBABILITIES)
    assert {key: value for key, value in found.items() if key[0] != "start"} == {
        (row.shard, row.pair_id): row.probability for row in rows
    }
    first = min(row.shard for row in rows)
    assert {pair: value for (shard, pair), value in found.items() if shard == "start"} == {
        row.pair_id: row.probability_before for row in rows if row.shard == first
    }


def wilson(won, of):
    """The roots of (p - won/of)² = z² p (1 - p) / of: Wilson's interval from its definition."""
    z = 1.959963984540054
    low, high = sorted(np.roots([1 + z * z / of, -2 * won / of - z * z / of, (won / of) ** 2]).real)
    return max(low, 0), min(high, 1)


def test_the_leaderboard_is_what_python_makes_of_the_tables(page, read):
    pair_of = {row.candidate_id: row.pair_id for row in read(tables.CANDIDATES)}
    values, verdicts = {}, {}
    for row in read(tables.COMPOSITE_SCORES):
        if row.pi is not None:
            values.setdefault(row.pair_id, []).append(row.pi)
    for row in read(tables.JUDGE_VERDICTS):
        if row.verdict in ("better", "worse", "tie", "inconsistent"):
            verdicts.setdefault(pair_of[row.candidate_id], []).append(row.verdict == "better")
    by_pi = {row["pair_id"]: row for row in page.plotted("leaderboard-pi")}
    assert set(by_pi) == set(values)
    for pair, of in values.items():
        half = 1.959964 * np.std(of, ddof=1) / sqrt(len(of))
        mean = np.mean(of)
        row = by_pi[pair]
        assert (row["mean_pi"], row["mean_pi_low"], row["mean_pi_high"]) == pytest.approx(
            (mean, mean - half, mean + half)
        )
    by_wins = {row["pair_id"]: row for row in page.plotted("leaderboard-win")}
    assert set(by_wins) == set(verdicts)
    for pair, of in verdicts.items():
        row = by_wins[pair]
        assert (row["better"], row["judged"]) == (sum(of), len(of))
        assert (row["win_rate_low"], row["win_rate_high"]) == pytest.approx(wilson(sum(of), len(of)), abs=1e-9)


def test_funnel_verdicts_gaps_and_squares_count_the_tables_rows(page, read):
    scores, verdicts = read(tables.IFD_SCORES), read(tables.JUDGE_VERDICTS)
    composite, made = read(tables.COMPOSITE_SCORES), read(tables.CANDIDATES)
    assert [row["rows"] for row in page.plotted("funnel")] == [
        len(read(tables.SAMPLING_PLAN)),
        sum(row.status == "ok" for row in made),
        sum(row.status == "ok" for row in scores),
        sum((row.gap or 0) > 0 for row in scores),
        sum((row.pi or 0) > 0 for row in composite),
        sum(row.selection == "best" for row in composite),
        len(read(tables.STAR_DATASET)),
    ]
    pair_of = {row.candidate_id: row.pair_id for row in made}
    counted = Counter((pair_of[row.candidate_id], row.verdict) for row in verdicts)
    assert {(row["pair_id"], row["verdict"]): row["rows"] for row in page.plotted("verdicts")} == counted
    gaps = {}
    for row in scores:
        if row.gap is not None:
            gaps.setdefault(pair_of[row.candidate_id], []).append(row.gap)
    for row in page.plotted("gaps"):
        of = gaps.pop(row["pair_id"])
        found = [row[name] for name in ("p05", "p25", "median_gap", "p75", "p95")]
        assert found == pytest.approx(np.quantile(of, [0.05, 0.25, 0.5, 0.75, 0.95]))
        assert (row["scored"], row["positive_rate"]) == (len(of), pytest.approx(np.mean(np.array(of) > 0)))
    assert gaps == {}
    squares = page.plotted("ifd")
    assert sum(row["candidates"] for row in squares) == sum(row.gap is not None for row in scores)
    inside = [
        row for row in scores if row.gap is not None and row.ifd_small < 0.99 * max(s["small_low"] for s in squares)
    ]
    for row in inside:
        assert any(
            s["small_low"] - 1e-9 <= row.ifd_small <= s["small_high"] + 1e-9
            and (s["large_low"] - 1e-9 <= row.ifd_large)
            for s in squares
        )


def test_the_first_screen_says_what_the_data_set_is_made_of_and_what_was_paid(page, read):
    final = read(tables.STAR_DATASET)
    slots = {row.candidate_id: row.slot for row in read(tables.CANDIDATES)}
    seeds = sum(row.pair_id == "seed" for row in final)
    reference = sum(row.pair_id != "seed" and slots[row.candidate_id] == 0 for row in final)
    text = " ".join(" ".join(page.texts).split())
    first = text[: text.index("From candidates to the final data set")]
    assert f"{seeds} unchanged seeds ({seeds / len(final):.0%})" in first
    assert f"{reference} of the reference " in first
    assert "paid in all" in first
    assert "drawn most" not in text


def test_no_pair_is_named_first_where_the_intervals_overlap(page):
    board = page.plotted("leaderboard-pi")
    first, *others = board
    rivals = [row["pair_id"] for row in others if row["mean_pi_high"] >= first["mean_pi_low"]]
    assert rivals  # 20 seeds do not tell the fakes apart
    text = " ".join(" ".join(page.texts).split())
    assert f"No pair is clearly first: {first['pair_id']} has" in text
    assert "By mean π no sampled pair is clearly ahead" in text
    assert "sampled pair clearly ahead none" in text
    assert "Three measures, three orders." in text
    assert " leads with " not in text


def test_failures_tell_their_reasons(page, read):
    failed = [row for row in read(tables.CANDIDATES) if row.status == "failed"]
    assert failed
    found = {(row["stage"], row["kind"]): row["times"] for row in page.plotted("failures")}
    assert found["generate", "timeout"] == sum(row.error_kind == "timeout" for row in failed)


def test_a_few_samples_hold_all_kinds_of_rows_and_the_page_says_how_to_see_more(finished, read):
    few = ReadPage(build_report(finished, 14).html)
    chosen = {found["seed_id"] for found in few.samples}
    assert len(chosen) == 14
    assert chosen < {row.seed_id for row in read(tables.SEED_SHARDS)}
    text = " ".join(" ".join(few.texts).split())
    assert "14 of 20 seeds" in text
    assert "star-pipeline report --samples N" in text
    kinds = [
        (lambda row: row.pair_id, read(tables.CANDIDATES)),
        (lambda row: row.error_kind, read(tables.CANDIDATES)),
        (lambda row: row.verdict, read(tables.JUDGE_VERDICTS)),
        (lambda row: row.selection, read(tables.COMPOSITE_SCORES)),
    ]
    for kind, rows in kinds:
        assert {kind(row) for row in rows} == {kind(row) for row in rows if row.seed_id in chosen}
    best = max((row for row in read(tables.COMPOSITE_SCORES) if row.selected), key=lambda row: row.pi or -1)
    assert best.seed_id in chosen
    assert ReadPage(build_report(finished, 0).html).samples == []


def test_a_lake_where_nothing_is_done_gives_sentences_instead_of_empty_plots(tmp_path):
    lake = Lake.at(tmp_path)
    build_inspection(lake)
    empty = ReadPage(build_report(lake).html)
    assert empty.unclosed == []
    assert empty.specs == {}
    assert empty.samples == []
    text = " ".join(" ".join(empty.texts).split())
    for said in (
        "Nothing has been made yet that could tell.",
        "No candidate has been asked for yet.",
        "Nothing has been judged yet.",
        "Nothing failed.",
    ):
        assert said in text


def test_without_an_inspection_file_or_with_a_broken_one_the_remedy_is_named(tmp_path):
    lake = Lake.at(tmp_path)
    with pytest.raises(LakeError, match="make it with: star-pipeline run"):
        build_report(lake)
    lake.inspection.write_bytes(b"no database")
    with pytest.raises(LakeError, match=r"cannot be opened by DuckDB .* star-pipeline run --lake"):
        build_report(lake)


def test_the_same_file_gives_the_same_page(finished, html):
    assert build_report(finished).html == html


def test_no_server_address_and_no_path_is_in_the_settings(finished, page):
    config = json.dumps(page.texts)
    assert str(finished.root) not in config
    assert "http://" not in config
    assert "hosted_vllm/a" in config


def test_the_asset_writes_the_lakes_page_and_says_what_is_in_it(finished, html):
    assert finished.report.read_bytes() == html
    with open_instance(finished) as instance:
        [record] = instance.fetch_materializations(dg.AssetKey("report"), limit=1).records
    told = record.asset_materialization.metadata
    assert told["path"].value == str(finished.report)
    assert told["link"].value == finished.report.as_uri()
    assert (told["bytes"].value, told["samples"].value, told["seeds"].value) == (len(html), 20, 20)
