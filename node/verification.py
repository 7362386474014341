"""Signatures, verified once: in batches off the event loop, and remembered.

A verification costs more than everything else that a transaction costs. What verified is
remembered under its full digest and the key, so that validating a block compares keys only.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from chain.transactions import Transaction
from chain.types import Digest, PublicKey
from node.ports import Executor

VERIFIED_MAX: Final = 200_000
"""Verified pairs of digest and key that are remembered; the oldest is forgotten."""
CHUNK: Final = 64
"""Transactions that one thread verifies in one go; the library releases the interpreter's lock."""

Pair = tuple[Transaction, PublicKey]


class Verifier:
    """Verifies the signatures of transactions, and remembers those that hold."""

    def __init__(self, executor: Executor, *, verified_max: int = VERIFIED_MAX) -> None:
        self._executor = executor
        self._verified_max = verified_max
        self._verified: OrderedDict[Digest, PublicKey] = OrderedDict()

    def is_known(self, transaction: Transaction, key: PublicKey) -> bool:
        """Tell whether the signature is known to verify under `key`."""
        return self._verified.get(transaction.digest) == key

    def check(self, transaction: Transaction, key: PublicKey) -> bool:
        """Tell whether the signature verifies under `key`; verify it here and now if need be."""
        if self.is_known(transaction, key):
            return True
        if not transaction.is_signed_by(key):
            return False
        self._remember(transaction, key)
        return True

    async def verify_many(self, pairs: Sequence[Pair]) -> list[bool]:
        """Verify signatures off the event loop; one answer each, in order."""
        unknown = [pair for pair in pairs if not self.is_known(*pair)]
        chunks = [unknown[start : start + CHUNK] for start in range(0, len(unknown), CHUNK)]
        answers = await asyncio.gather(
            *(self._executor.run(_verify_chunk, chunk) for chunk in chunks)
        )
        good: set[tuple[Digest, PublicKey]] = set()
        for chunk, valid in zip(chunks, answers, strict=True):
            for (transaction, key), holds in zip(chunk, valid, strict=True):
                if holds:
                    self._remember(transaction, key)
                    good.add((transaction.digest, key))
        return [
            (transaction.digest, key) in good or self.is_known(transaction, key)
            for transaction, key in pairs
        ]

    def _remember(self, transaction: Transaction, key: PublicKey) -> None:
        self._verified[transaction.digest] = key
        if len(self._verified) > self._verified_max:
            self._verified.popitem(last=False)


def _verify_chunk(pairs: Sequence[Pair]) -> list[bool]:
    return [transaction.is_signed_by(key) for transaction, key in pairs]
