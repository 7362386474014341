"""Which scenarios there are, which of them are the same but for names, and a way through them."""

import random
from collections.abc import Sequence
from functools import cache, cached_property
from itertools import permutations, product
from typing import Final

from tests.twins.world import STAGES, Move

SYSTEMATIC_MEMBERS_MAX: Final = 4
"""With more members there are too many moves for all pairs of them."""


class Space:
    """All sequences of `rounds` moves of n members, of which the first `twins` run twice.

    In a move any member proposes; from one of three stages on the nodes are split into two groups,
    or some of them are deaf, or nothing is lost.
    """

    def __init__(self, n: int, twins: int, rounds: int) -> None:
        self.n = n
        self.twins = twins
        self.rounds = rounds
        self.nodes = n + twins
        patterns = [(stage, hears) for stage in range(STAGES) for hears in self._cuts()]
        everyone = ((1 << self.nodes) - 1,) * self.nodes
        self.moves = [
            Move(proposer, stage, hears)
            for proposer in range(n)
            for stage, hears in [(0, everyone), *patterns]
        ]

    def _cuts(self) -> list[tuple[int, ...]]:
        everyone = (1 << self.nodes) - 1
        # Node 0 is always on the second side, lest each split is there twice.
        splits = [
            tuple(side if side >> node & 1 else everyone & ~side for node in range(self.nodes))
            for side in range(2, everyone + 1, 2)
        ]
        deaf = [
            tuple(0 if mask >> node & 1 else everyone for node in range(self.nodes))
            for mask in range(1, everyone + 1)
        ]
        return splits + deaf

    def renamings(self) -> list[tuple[int, ...]]:
        """Return all permutations of the nodes under which a world stays the same.

        Honest members may change places; so may members that run twice, and the two copies of one.
        """
        found = []
        for honest in permutations(range(self.twins, self.n)):
            for twins in permutations(range(self.twins)):
                for swaps in product((False, True), repeat=self.twins):
                    first = [t + self.n if s else t for t, s in zip(twins, swaps, strict=True)]
                    second = [t if s else t + self.n for t, s in zip(twins, swaps, strict=True)]
                    found.append((*first, *honest, *second))
        return found

    @cached_property
    def _images(self) -> list[list[int]]:
        """For each renaming the move that each move becomes."""
        number = {move: index for index, move in enumerate(self.moves)}
        return [
            [number[_renamed(move, names, self.n)] for move in self.moves]
            for names in self.renamings()
        ]

    def is_first(self, moves: tuple[int, ...]) -> bool:
        """Tell whether no renaming makes an earlier sequence of these moves."""
        return all(tuple(image[move] for move in moves) >= moves for image in self._images)

    def count(self, rounds: int) -> int:
        """Return how many sequences of so many rounds differ in more than names (Burnside)."""
        fixed = [
            sum(image[move] == move for move in range(len(self.moves))) for image in self._images
        ]
        return int(sum(count**rounds for count in fixed) // len(fixed))

    @cached_property
    def beginnings(self) -> list[tuple[int, ...]]:
        """All sequences of two moves, of those that differ in names alone the first."""
        numbers = range(len(self.moves))
        firsts = [move for move in numbers if self.is_first((move,))]
        return [pair for pair in product(firsts, numbers) if self.is_first(pair)]

    @cached_property
    def size(self) -> int:
        """The number of scenarios; names count only where there are too many to compare."""
        if self.n > SYSTEMATIC_MEMBERS_MAX:
            return int(len(self.moves) ** self.rounds)
        return self.count(self.rounds)

    def scenario(self, number: int, seed: int) -> tuple[Move, ...]:
        """Return a scenario: one for each beginning, in an order that is drawn, and then any.

        What does not belong to the beginning is drawn.
        """
        rng = random.Random(f"{self.n} {seed} {number}")
        begun: Sequence[int] = ()
        if self.n <= SYSTEMATIC_MEMBERS_MAX and number < len(self.beginnings):
            begun = self.beginnings[self._order(seed)[number]]
        drawn = [rng.randrange(len(self.moves)) for _ in range(self.rounds - len(begun))]
        return tuple(self.moves[move] for move in (*begun, *drawn))

    @cache  # noqa: B019  # a space lives as long as the process
    def _order(self, seed: int) -> list[int]:
        order = list(range(len(self.beginnings)))
        random.Random(seed).shuffle(order)
        return order


def _renamed(move: Move, names: tuple[int, ...], n: int) -> Move:
    hears = [0] * len(names)
    for node, heard in enumerate(move.hears):
        hears[names[node]] = sum(
            1 << names[other] for other in range(len(names)) if heard >> other & 1
        )
    proposer = names[move.proposer]
    return Move(proposer if proposer < n else proposer - n, move.stage, tuple(hears))
