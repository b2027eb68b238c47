"""Whatever the passes, their forest holds each one's tokens, positions and targets, and hides the others from it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.adapters.scoring.prefix_tree import ROUND, ForwardPass, forest, packed, padded, rows

tokens = st.integers(0, 3)


@st.composite
def some_passes(draw):
    """Passes that often begin alike, some of them equal but for what is scored."""
    stems = [draw(st.lists(tokens, min_size=1, max_size=20)) for _ in range(draw(st.integers(1, 3)))]
    made = []
    for _ in range(draw(st.integers(1, 8))):
        ends = draw(st.lists(tokens, min_size=1, max_size=20))
        whole = np.array([*draw(st.sampled_from(stems)), *ends], dtype=np.int32)
        made.append(ForwardPass(whole, draw(st.integers(1, len(whole) - 1))))
    return made


@given(some_passes())
def test_a_forest_holds_every_pass(passes):
    batch = forest(passes, range(len(passes)))
    assert sorted(batch.members) == list(range(len(passes)))
    assert batch.tokens.shape[1] == batch.segments[-1].end
    assert batch.tokens.shape[1] % ROUND == 0
    covered = [index for segment in batch.segments for index in range(segment.start, segment.end)]
    assert covered == list(range(batch.tokens.shape[1]))
    first = 0
    for number, count in zip(batch.members, batch.counts, strict=True):
        item = passes[number]
        assert count == item.scored
        assert batch.targets[first : first + count].tolist() == item.tokens[-count:].tolist()
        source = batch.sources[first : first + count]
        assert batch.tokens[0][source].tolist() == item.tokens[-count - 1 : -1].tolist()
        assert batch.positions[0][source].tolist() == list(range(len(item.tokens) - 1 - count, len(item.tokens) - 1))
        # following the branch down to the last source gives the pass's tokens, and nothing else
        last = int(source[-1])
        spans = next(s.spans for s in batch.segments if s.start <= last < s.end)
        path = np.concatenate([np.arange(*span) for span in spans])
        path = path[: int(np.flatnonzero(path == last)[0]) + 1]
        assert batch.tokens[0][path].tolist() == item.tokens[:-1].tolist()
        first += count


@given(some_passes())
def test_a_row_holds_every_pass(passes):
    batch = rows(passes, range(len(passes)))
    flat, first = batch.tokens.ravel(), 0
    for item in passes:
        source = batch.sources[first : first + item.scored]
        assert flat[source].tolist() == item.tokens[-item.scored - 1 : -1].tolist()
        first += item.scored


@given(some_passes(), st.integers(1, 200))
def test_every_pass_is_in_one_batch(passes, budget):
    for plan in (packed, padded):
        planned = [number for members in plan(passes, budget) for number in members]
        assert sorted(planned) == list(range(len(passes)))


def test_a_shared_prompt_is_computed_once():
    prompt, long = np.arange(40, dtype=np.int32), 30
    passes = [ForwardPass(np.concatenate([prompt, np.full(long, n, dtype=np.int32)]), long) for n in range(4)]
    [members] = packed(passes, 1000)
    batch = forest(passes, members)
    assert sum(segment.end - segment.start for segment in batch.segments[:-1]) == 40 + 4 * (long - 1)


def test_batches_are_full():
    draw = np.random.default_rng(0)
    passes = [ForwardPass(draw.integers(0, 99, draw.integers(20, 300)).astype(np.int32), 10) for _ in range(400)]
    sizes = [forest(passes, members).tokens.size for members in packed(passes, 1024)]
    assert max(sizes) <= 1024
    assert sum(sizes) / len(sizes) > 0.9 * 1024
