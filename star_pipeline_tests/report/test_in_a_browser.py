"""The page in a real browser: plots are drawn, samples can be searched and walked through, and no text becomes markup."""

from pathlib import Path

import pytest

from star_pipeline.report.build import build_report
from star_pipeline_tests.browser import CHROMIUM, opened
from star_pipeline_tests.report.conftest import UNKIND
from star_pipeline_tests.report.page import ReadPage

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def report(finished, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(build_report(finished).html)
    return Path(path)


@pytest.fixture(scope="module")
def page(report):
    with opened(report) as page:
        page.wait_for("document.body.dataset.ready")
        yield page


def listed(page):
    return page.evaluate("[...document.querySelectorAll('#list a')].map((link) => link.dataset.seed)")


def chosen(page):
    return page.evaluate("document.querySelector('#list [aria-current]')?.dataset.seed")


def fill(page, field, value):
    """As a user would, and after the list has followed."""
    page.evaluate(
        f"(() => {{ const field = document.getElementById('{field}'); field.value = {value!r}; "
        "document.getElementById('count').textContent = ''; field.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    page.wait_for("document.getElementById('count').textContent")


def test_it_asks_the_network_for_nothing_and_every_plot_is_drawn(report, page):
    page.wait_for(
        "[...document.querySelectorAll('.plot')].every((plot) => plot.dataset.drawn && plot.querySelector('svg path'))"
    )
    assert page.evaluate("document.querySelectorAll('.plot svg').length") == len(ReadPage(report.read_bytes()).specs)
    assert page.requests == [report.as_uri(), *[url for url in page.requests[1:] if url.startswith("data:")]]
    assert page.messages == []


def test_links_at_the_top_lead_to_their_sections_though_the_page_still_grows_above_and_below_them(report):
    for width, height in ((1440, 1000), (390, 844)):
        with opened(report, width, height) as page:
            names = page.evaluate("[...document.querySelectorAll('header nav a')].map((link) => link.hash)")
            for name in [names[-1], *names]:
                page.evaluate(f"document.querySelector('header nav a[href=\"{name}\"]').click()")
                page.wait_for(
                    "[...document.querySelectorAll('.plot')].every((plot) => plot.dataset.drawn) && document.body.dataset.ready"
                )
                place = f"document.querySelector('{name}').getBoundingClientRect().top"
                page.wait_for(f"0 <= {place} && {place} <= 40")  # a page follows a link in its own time
                page.evaluate("new Promise((done) => setTimeout(done, 50))")
                assert 0 <= page.evaluate(place) <= 40, (width, name)  # and stays there


def test_unkind_texts_are_shown_as_they_are_and_run_nothing(report, page):
    seeds = {found["response"]: found["seed_id"] for found in ReadPage(report.read_bytes()).samples}
    for text in UNKIND[:-1]:
        page.evaluate(f"location.hash = '#seed={seeds[text]}'")
        page.wait_for(f"document.querySelector('#list [aria-current]')?.dataset.seed === '{seeds[text]}'")
        shown = page.evaluate("document.querySelector('.card .text[data-of=Response]').textContent")
        assert shown == text.replace("\u0000", "\u2400").replace("\u0007", "\u2407").replace("\u0085", "\ufffd")
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.querySelectorAll('article img, article b, article script').length") == 0
    # and were there markup somewhere, the page's policy would still not run it
    page.evaluate("document.body.insertAdjacentHTML('beforeend', \"<img src='data:,' onerror='window.hacked = 1'>\")")
    page.evaluate("new Promise((done) => setTimeout(done, 200))")
    assert page.evaluate("window.hacked") is None
    page.messages.clear()


def test_search_filters_and_order_choose_what_is_listed(report, page):
    samples = ReadPage(report.read_bytes()).samples
    fill(page, "filter-text", "left NITFIHS")
    [hidden] = [found["seed_id"] for found in samples if "nitfihs" in found["instruction"]]
    assert listed(page) == [hidden]
    assert chosen(page) == hidden
    fill(page, "filter-text", "nitfihs elsewhere")
    assert listed(page) == []
    assert page.evaluate("document.getElementById('count').textContent") == "0 of 20 samples"
    fill(page, "filter-text", "")
    fill(page, "filter-verdict", "failed to generate")
    failed = {found["seed_id"] for found in samples if any(one["status"] == "failed" for one in found["candidates"])}
    assert set(listed(page)) == failed
    fill(page, "filter-verdict", "")
    fill(page, "sort", "π, highest first")
    pis = {found["seed_id"]: one.get("pi", -1) for found in samples for one in found["candidates"] if one["selected"]}
    order = [pis[seed] for seed in listed(page)]
    assert len(order) == 20
    assert order == sorted(order, reverse=True)
    fill(page, "sort", "order of the files")


def test_the_keys_walk_through_the_list_and_the_address_follows(page):
    seeds = listed(page)
    page.evaluate(f"location.hash = '#seed={seeds[0]}'")
    page.wait_for(f"document.querySelector('#list [aria-current]')?.dataset.seed === '{seeds[0]}'")
    page.press("j")
    page.press("j")
    assert chosen(page) == seeds[2]
    assert page.evaluate("location.hash") == f"#seed={seeds[2]}"
    assert page.evaluate("document.activeElement.id") == "seed-title"
    page.press("k")
    assert chosen(page) == seeds[1]
    page.evaluate("document.getElementById('filter-text').focus()")
    page.press("j")
    assert chosen(page) == seeds[1]  # in a field, a letter is a letter
    page.evaluate(
        "document.activeElement.value = ''; document.activeElement.blur(); document.getElementById('keys').click()"
    )
    page.press("j")
    assert chosen(page) == seeds[1]
    page.evaluate("document.getElementById('keys').click()")


@pytest.mark.parametrize("width", [375, 1400])
def test_a_link_opens_its_seed_and_the_page_never_scrolls_sideways(report, width):
    wanted = ReadPage(report.read_bytes()).samples[7]["seed_id"]
    with opened(report, width, fragment=f"#seed={wanted}") as page:
        page.wait_for("document.body.dataset.ready")
        assert chosen(page) == wanted
        page.evaluate("document.querySelectorAll('details').forEach((box) => { box.open = true; })")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.wait_for("[...document.querySelectorAll('.plot')].every((plot) => plot.dataset.drawn)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.messages == []


def test_a_link_to_a_seed_that_was_not_sampled_says_so(report):
    with opened(report, fragment="#seed=%E0%A4%A") as page:
        page.wait_for("document.body.dataset.ready")
        assert "is not among the samples" in page.evaluate("document.getElementById('count').textContent")
        assert page.messages == []
