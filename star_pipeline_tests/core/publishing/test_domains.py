"""Task domains: how many, which rows, what they are called; and the rows' near-duplicates."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.adapters.fakes import HashEmbedder
from star_pipeline.core.publishing.domains import cluster, domain_count, domain_names, task_domains, terms
from star_pipeline.core.records import Message, StarRow

TOPICS = {
    "cooking": [
        "bake sourdough bread",
        "season a soup with herbs",
        "roast vegetables in the oven",
        "knead bread dough",
    ],
    "code": ["sort a python list", "write a python loop", "debug python functions", "test python code"],
}


def row(number, instruction, pi=0.5, gap=0.1, before=(), **changes):
    messages = (*before, Message("user", instruction), Message("assistant", "answer"))
    made = StarRow(
        f"s{number:03}", messages, instruction, "answer", "a+b", pi, pi, 1.0, 0.9, 0.8, gap, "000001-x", "x.json", number,
        f"c{number:03}", "best",
    )  # fmt: skip  # read as a table
    return replace(made, **changes)


def domains(rows, count=None, least=0.95):
    return task_domains(rows, HashEmbedder().embed([r.instruction for r in rows]), count, least)


def test_the_number_of_domains_grows_with_the_root_of_the_rows():
    assert [domain_count(n) for n in (0, 1, 9, 10, 32, 161, 2000, 7200, 70_000)] == [1, 1, 1, 2, 2, 4, 16, 30, 30]


def test_clusters_that_lie_apart_are_found_and_the_largest_comes_first():
    numbers = np.random.default_rng(0)
    truth = numbers.permutation([0] * 40 + [1] * 25 + [2] * 10)
    vectors = np.eye(3, 12)[truth] + 0.05 * numbers.normal(size=(75, 12))
    assert list(cluster(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), 3)) == list(truth)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_fewer_distinct_rows_than_domains_are_fewer_domains(count):
    assert list(cluster(np.ones((4, 3), np.float32), count)) == [0, 0, 0, 0]
    assert list(cluster(np.zeros((0, 3), np.float32), count)) == []


def test_domains_are_named_by_what_is_typical_of_them():
    texts = [f"Explain how to {text}, step by step." for topic in TOPICS.values() for text in topic]
    names = domain_names(texts, [0] * 4 + [1] * 4)
    assert names[0].split(", ")[0] == "bread"
    assert names[1].split(", ")[0] == "python"
    assert not {"how", "to", "a", "the"}.intersection(", ".join(names).split(", "))


def test_chinese_is_read_in_pairs_of_characters_and_other_scripts_in_words():
    assert list(terms("机器学习")) == ["机器", "器学", "学习"]
    assert list(terms("Напиши стихотворение, o école!")) == ["напиши", "стихотворение", "école"]
    assert list(terms("हिन्दी में कविता")) == ["हिन्दी", "में", "कविता"]
    assert list(terms("用Python写代码 123")) == ["python", "写代", "代码"]
    texts = ["请解释机器学习", "什么是机器学习", "机器学习的用途", "写一首关于春天的诗", "春天的诗歌", "读一首春天的诗"]
    first, second = domain_names(texts, [0, 0, 0, 1, 1, 1])
    assert {"机器", "学习"} <= set(first.split(", "))
    assert "春天" in second.split(", ")


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "1+1", "a b c", "same words", "other words here", "了"]), st.integers(0, 5)),
        max_size=30,
    )
)
def test_no_name_is_empty_or_there_twice(drawn):
    labels = {label: place for place, label in enumerate(sorted({label for _, label in drawn}))}
    names = domain_names([text for text, _ in drawn], [labels[label] for _, label in drawn])
    assert len(set(names)) == len(names) == len(labels)
    assert all(names)


def test_rows_have_domain_neighbour_and_group_whatever_their_number():
    assert domains([]) == []
    [alone] = domains([row(1, "bake bread")])
    assert (alone.domain, alone.nearest_seed_id, alone.nearest_similarity, alone.near_duplicate_of) == (
        0,
        None,
        None,
        "s001",
    )
    first, second = domains([row(1, "bake bread", pi=0.2), row(2, "bake bread", pi=0.4)])
    assert (first.nearest_seed_id, first.nearest_similarity, first.near_duplicate_of) == ("s002", 1.0, "s002")
    assert (second.nearest_seed_id, second.near_duplicate_of) == ("s001", "s002")


def test_other_earlier_turns_or_another_system_prompt_are_no_near_duplicate():
    poet, turn = (Message("system", "be a poet"),), (Message("user", "hi"), Message("assistant", "hello"))
    rows = [row(n, "go on", before=before) for n, before in enumerate([(), poet, turn, poet, poet + turn])]
    assert [found.near_duplicate_of for found in domains(rows)] == ["s000", "s001", "s002", "s001", "s004"]


def test_ties_in_pi_go_to_the_larger_gap_then_to_the_smaller_seed_id_and_nothing_ranks_last():
    rows = [
        row(n, "same", pi=pi, gap=gap) for n, (pi, gap) in enumerate([(None, None), (0.5, 0.1), (0.5, 0.2), (0.5, 0.2)])
    ]
    assert {found.near_duplicate_of for found in domains(rows)} == {"s002"}


def test_the_order_that_the_bank_gives_rows_in_changes_nothing():
    texts = [f"{text} {n}" for n in range(3) for topic in TOPICS.values() for text in topic]
    rows = [row(n, text) for n, text in enumerate(texts)]
    vector_of = dict(zip(texts, HashEmbedder().embed(texts), strict=True))
    shuffled = dict(random.Random(3).sample(list(vector_of.items()), len(texts)))
    again = task_domains(rows, np.asarray([shuffled[text] for text in texts]), 2, 0.95)
    assert again == domains(rows, 2)
    assert {found.domain for found in again} == {0, 1}
