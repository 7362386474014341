"""Random numbers that a seed decides."""

from random import Random


class SeededRandom:
    """The random numbers of one simulated node, as a :class:`node.ports.Random`.

    Parameters
    ----------
    seed : int
        Two sources with one seed give the same numbers.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def bytes(self, size: int) -> bytes:
        """Return `size` bytes."""
        return self._random.randbytes(size)

    def below(self, bound: int) -> int:
        """Return an integer drawn evenly from ``[0, bound)``; `bound` is at least 1."""
        return self._random.randrange(bound)
