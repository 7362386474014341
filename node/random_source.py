"""The one module that makes random numbers."""

import secrets


class SystemRandom:
    """The random numbers of the operating system, as a :class:`node.ports.Random`."""

    __slots__ = ()

    def bytes(self, size: int) -> bytes:
        """Return `size` random bytes fit for nonces and keys."""
        return secrets.token_bytes(size)

    def below(self, bound: int) -> int:
        """Return an integer drawn evenly from ``[0, bound)``; `bound` is at least 1."""
        return secrets.randbelow(bound)
