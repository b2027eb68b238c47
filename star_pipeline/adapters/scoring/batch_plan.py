"""Which passes are computed together: decided from the passes alone, wherever the batches are then computed."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from star_pipeline.adapters.scoring.prefix_tree import ForwardPass, packed, padded


@dataclass(frozen=True)
class ExecutionModes:
    """How a model is run: ``packs``, with attention over segments, or rows with padding; ``tiles``, its head in tiles here, or its
    own; ``together``, several passes in a batch, or each by itself."""

    packs: bool
    tiles: bool
    together: bool = True


def side_of(borders: Sequence[int], length: int) -> int:
    """How many of a model's ``borders`` (see ``length_borders``) a pass of so many tokens is beyond."""
    return bisect_left(borders, length)


def plan_batches(
    passes: Sequence[ForwardPass], budget: int, borders: Sequence[int], ways_of: Callable[[int], ExecutionModes]
) -> Iterator[list[int]]:
    """Numbers of the passes of each batch of about ``budget`` tokens, all of it on one side of each border; ``ways_of`` a side."""
    sides: dict[int, list[int]] = {}
    for number, item in enumerate(passes):
        sides.setdefault(side_of(borders, len(item.tokens)), []).append(number)
    for side in sorted(sides, reverse=True):
        numbers, ways = sides[side], ways_of(side)
        some = [passes[number] for number in numbers]
        batches = (packed if ways.packs else padded)(some, budget) if ways.together else ([n] for n in range(len(some)))
        yield from ([numbers[n] for n in batch] for batch in batches)
