"""Sending transactions on to the miners, in batches.

Every transaction is sent on once, by the node that took it from its client; miners are all
connected with each other, so what comes from a peer is not sent on again. What a broken session
lost is made up for by `send_pending`, which consensus asks for when a time-out shows a proposer
that does not propose.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from chain.transactions import Transaction
from chain.types import Address
from node.ports import Transport
from node.protocol import (
    BATCH_SIZE_MAX,
    BATCH_TRANSACTIONS_MAX,
    TRANSACTIONS,
    Transactions,
    encode_body,
)

FLUSH_DELAY_S: Final = 0.002
"""How long a transaction waits for others, so that single ones do not cost a message each."""


class Gossip:
    """Collects transactions for a moment and sends them to all miners.

    Parameters
    ----------
    miners : callable
        Returns the node ids of the other miners.
    """

    def __init__(self, transport: Transport, miners: Callable[[], Sequence[Address]]) -> None:
        self._transport = transport
        self._miners = miners
        self._waiting: list[bytes] = []
        self._is_scheduled = False

    def add(self, transaction: Transaction) -> None:
        """Send `transaction` on within the next moment."""
        self._waiting.append(transaction.wire)
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_later(FLUSH_DELAY_S, self._on_time)

    def send_pending(self, transactions: Iterable[Transaction]) -> None:
        """Send transactions that may have been lost on their first way."""
        self._send([transaction.wire for transaction in transactions])

    def flush(self) -> None:
        """Send at once what waits, lest a block be proposed that names it."""
        wires, self._waiting = self._waiting, []
        self._send(wires)

    def _on_time(self) -> None:
        self._is_scheduled = False
        self.flush()

    def _send(self, wires: Sequence[bytes]) -> None:
        for batch in _batches(wires):
            payload = encode_body(TRANSACTIONS, Transactions(wires=batch))
            for miner in self._miners():
                self._transport.send(miner, TRANSACTIONS, payload)


def _batches(wires: Sequence[bytes]) -> Iterable[tuple[bytes, ...]]:
    batch: list[bytes] = []
    size = 0
    for wire in wires:
        batch.append(wire)
        size += len(wire)
        if size >= BATCH_SIZE_MAX or len(batch) == BATCH_TRANSACTIONS_MAX:
            yield tuple(batch)
            batch, size = [], 0
    if batch:
        yield tuple(batch)
