"""The report's section on a study, of tables that are written through their own specs: words, the data behind the plots, and tables."""

import hashlib
import math
import re
import shutil
import statistics

import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.study_files import write_arms, write_study_rows
from star_pipeline.core.study.arms import content
from star_pipeline.core.study.records import StudyArm, StudyGrade, StudyLoss, StudyTask, StudyWin
from star_pipeline.core.study.results import study_results
from star_pipeline.core.study.tables import STUDY_GRADES, STUDY_LOSSES, STUDY_RESULTS, STUDY_TASKS, STUDY_WINS
from star_pipeline.inspection.build import build_inspection, open_inspection
from star_pipeline.report.build import build_report
from star_pipeline.report.study import TITLE
from star_pipeline_tests.report.page import ReadPage

ARMS = ("seeds", "random", "star")
CATEGORIES = ("writing", "coding", "math", "reasoning", "<b>roleplay</b>")
TARGETS = ("org/tiny-1.5B", "org/tiny-500M")
EVEN = dict.fromkeys(ARMS, 0.0)
BETTER = {"seeds": 0.0, "random": 0.0, "star": 0.25}
"""How much better each arm's models are; all else is chance."""


def luck(*parts):
    """A number in [-1, 1) that depends on the parts alone."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big") / 2**47 - 1


def measured(targets, gain, seeds=(0, 1, 2), questions=40):
    """Losses, wins, grades and a task's marks; each arm is better by its gain."""
    losses, wins, grades, tasks = [], [], [], []
    for target, arm, seed in ((t, a, s) for t in targets for a in ARMS for s in seeds):
        own, size = (target, arm, seed), 0.5 * ("500M" in target)
        for n in range(questions):
            name, category = f"q{n}", CATEGORIES[n % len(CATEGORIES)]
            noise = 0.1 * luck("question", n) + 0.05 * luck(*own, n)
            losses.append(StudyLoss(*own, name, "held.json", None, 2 + size + noise - gain[arm], 30, "ok"))
            if arm != "seeds":
                verdict = "better" if luck("win", *own, n) < 2 * gain[arm] else "worse"
                fate = (verdict, verdict, verdict, float(verdict == "better"))
                asked = (None, None, None, "j", 2, 100, 20, 0.0005)
                wins.append(
                    StudyWin(
                        *own, name, "seeds", "asked.json", category, *fate, 300 + int(90 * luck(arm, n)), 300, *asked
                    )
                )
            grade = 6 + 2 * luck("grade", n) + 0.5 * luck("g", *own, n) + 4 * gain[arm]
            paid = ("Good.", None, "j", 1, 100, 20, 0.001)
            grades.append(StudyGrade(*own, name, 1, "asked.json", category, min(10.0, max(1.0, grade)), *paid))
            right = float(luck("right", n, seed) < 3 * gain[arm])
            tasks.append(StudyTask(*own, "toy_arc", "acc,none", name, right))
    return losses, wins, grades, tasks


def write_study(lake, targets, gain, **asked):
    """A study's tables in the lake, in the order in which ``study`` writes them, and the inspection file."""
    told = [
        StudyArm(name, name, 17, 1000 + 230 * n, n, 17 - n, None, 2, 1, 0, 0, content([]))
        for n, name in enumerate(ARMS)
    ]
    write_arms(lake, {name: [] for name in ARMS}, told, [])
    if targets:
        losses, wins, grades, tasks = found = measured(targets, gain, **asked)
        for spec, rows in zip((STUDY_LOSSES, STUDY_WINS, STUDY_GRADES, STUDY_TASKS), found, strict=True):
            write_study_rows(lake, spec, rows)
        write_study_rows(lake, STUDY_RESULTS, study_results(ARMS, "seeds", losses, wins, grades, tasks))
    build_inspection(lake)
    return lake


def copied(finished, folder):
    for name in ("tables", "star_dataset"):
        shutil.copytree(str(finished.root / name), folder / name)
    return Lake.at(folder)


@pytest.fixture(scope="module")
def studied(finished, tmp_path_factory):
    """Two targets, for which star is plainly better and random is not."""
    return write_study(copied(finished, tmp_path_factory.mktemp("studied") / "lake"), TARGETS, BETTER)


@pytest.fixture(scope="module")
def page(studied):
    return ReadPage(build_report(studied).html)


@pytest.fixture(scope="module")
def results(studied):
    return {(r.target, r.measure, r.part, r.arm): r for r in studied.read_table(STUDY_RESULTS)}


def told(page):
    """All text of the page, a line an element."""
    return "\n".join(part.strip() for part in page.texts if part.strip())


def test_a_lake_without_a_study_has_no_section_and_no_fact(finished):
    page = ReadPage(build_report(finished).html)
    assert TITLE not in told(page)
    assert not [found for _, found in page.tags if found.get("id") == "study"]
    assert not [name for name in page.specs if name.startswith(("study", "scaling", "radar"))]


def test_the_first_fact_and_the_paragraph_say_which_arm_is_best_how_sure_and_at_what_cost(page, results):
    text = told(page)
    _, linked, fact, section = text.split(
        TITLE
    )  # what comes after the links to sections, the summary's first fact, the section
    assert linked.rstrip().endswith("Summary")
    assert fact.split("\n")[1] == "star is best for both targets"
    paragraph = section.strip().split("\n")[0]
    assert paragraph.startswith("Star is best for both targets.")
    for target in TARGETS:
        row = results[target, "held_out_loss", "all", "star"]
        assert row.shown == "better"
        assert f"{target}: {row.words}" in paragraph
    assert "Shown by " in paragraph
    assert "1,460 response tokens, +46% beside seeds" in paragraph
    judged = 2 * 3 * 40 * (2 * 0.0005 + 3 * 0.001)
    assert f"Judging in this study cost {judged:.4f} USD." in paragraph
    assert "toys" not in paragraph
    assert [found["id"] for tag, found in page.tags if tag == "section"][2] == "study"


def test_a_dot_is_the_difference_and_its_whisker_the_interval(page, results):
    for measure in ("held_out_loss", "win_rate", "length_controlled_win_rate", "grade"):
        dots = page.plotted(f"study-{measure}")
        assert [(dot["target"], dot["arm"]) for dot in dots] == [(t, a) for t in TARGETS for a in ARMS[1:]]
        for dot in dots:
            row = results[dot["target"], measure, "all", dot["arm"]]
            assert (dot["difference"], dot["difference_low"], dot["difference_high"]) == (
                row.difference,
                row.low,
                row.high,
            )
            assert dot["sure"] == (dot["arm"] == "star")
    [_, whiskers, drawn] = page.specs["study-held_out_loss"]["layer"]
    assert (whiskers["encoding"]["x"]["field"], whiskers["encoding"]["x2"]["field"]) == (
        "difference_low",
        "difference_high",
    )
    assert drawn["encoding"]["x"]["field"] == "difference"
    assert {row["part"] for row in page.plotted("study-acc-none")} == {"toy_arc"}


def test_the_scaling_plot_has_each_arm_s_mean_by_the_size_that_the_name_tells(page, studied):
    losses = studied.read_table(STUDY_LOSSES)
    points = page.plotted("scaling-held_out_loss")
    assert [point["size"] for point in points] == [5e8] * 3 + [1.5e9] * 3
    for point in points:
        own = [row.nll for row in losses if (row.target, row.arm) == (point["target"], point["arm"])]
        assert point["figure"] == pytest.approx(statistics.mean(own))


def test_a_radar_s_corner_is_a_category_s_mean_grade_and_its_line_closes(page, studied):
    grades = studied.read_table(STUDY_GRADES)
    for place, target in enumerate(TARGETS, 1):
        for arm in ARMS:
            corners = [row for row in page.plotted(f"radar-{place}") if row["arm"] == arm]
            assert [row["part"] for row in corners] == [*CATEGORIES, CATEGORIES[0]]
            assert (corners[0]["x"], corners[0]["y"]) == (corners[-1]["x"], corners[-1]["y"])
            for turn, corner in enumerate(corners[:-1]):
                own = [g.grade for g in grades if (g.target, g.arm, g.category) == (target, arm, corner["part"])]
                assert math.hypot(corner["x"], corner["y"]) == pytest.approx(statistics.mean(own), abs=1e-3)
                angle = math.atan2(corner["x"], corner["y"]) % (2 * math.pi)
                assert angle == pytest.approx(2 * math.pi * turn / len(CATEGORIES), abs=1e-3)


def test_tables_are_open_and_hold_the_numbers(page, results):
    opened = [found for tag, found in page.tags if tag == "details" and "open" in found]
    assert len(opened) == 2
    text = told(page)
    for row in results.values():
        if row.part == "all" and row.difference is not None:
            assert f"{row.difference:+.3g}\n" in text
    assert f"{results[TARGETS[0], 'win_rate', 'all', 'random'].needed:,}" in text
    assert page.unclosed == []


def test_no_difference_is_said_plainly_and_toy_models_are_named_so(finished, tmp_path):
    lake = write_study(copied(finished, tmp_path / "lake"), ["offline/small"], EVEN, seeds=(0,), questions=25)
    text = told(ReadPage(build_report(lake).html))
    assert "\nno difference shown\n" in text
    paragraph = text.rsplit("No difference shown.", 1)[1].split("\n")[0]
    assert re.search(
        r"no difference shown(, p [\d.]+ after Holm's correction)?\. So many questions show differences from", paragraph
    )
    assert "says nothing about real ones" in paragraph


def test_a_study_of_which_only_the_arms_are_made_says_so(finished, tmp_path):
    lake = write_study(copied(finished, tmp_path / "lake"), [], EVEN)
    page = ReadPage(build_report(lake).html)
    assert "Nothing measured yet. The training sets are made" in told(page)
    assert not [name for name in page.specs if name.startswith("study")]


def test_the_shipped_queries_tell_the_same_as_the_tables(studied, results):
    with open_inspection(studied) as database:
        summary = database.execute(
            "SELECT target, measure, part, arm, difference, difference_low, words FROM study_summary"
        ).fetchall()
        categories = database.execute("SELECT target, measure, part, arm FROM study_categories").fetchall()
        costs = database.execute(
            "SELECT arm, tokens_beside_seeds, left_out_overlap, trainings, requests, round(judged_usd, 9), rows_usd FROM study_cost"
        ).fetchall()
        [[paid]] = database.execute("SELECT sum(cost_usd) FROM costs").fetchall()
    for target, measure, part, arm, difference, low, words in summary:
        row = results[target, measure, part, arm]
        assert (difference, low, words) == (row.difference, row.low, row.words)
    assert {row[:4] for row in summary} | set(categories) == set(results)
    assert len(summary) + len(categories) == len(results)
    each = 2 * 3 * 40
    assert costs == [
        ("seeds", 0.0, 2, 6, each, round(each * 0.001, 9), 0.0),
        ("random", pytest.approx(0.23), 2, 6, 3 * each, round(each * 0.0015, 9), pytest.approx(costs[1][-1])),
        ("star", pytest.approx(0.46), 2, 6, 3 * each, round(each * 0.0015, 9), pytest.approx(paid)),
    ]
    assert 0 <= costs[1][-1] <= paid
