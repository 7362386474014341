"""Fetching the transactions of a proposal that this node does not hold, and answering for them.

Proposals name transactions by full digest; what the pool does not hold is asked for from the
proposer, then from others that attested to hold the block.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from chain.transactions import Transaction, decode_transaction
from chain.types import Address, Digest
from node.ports import Transport
from node.protocol import BODIES, GET_BODIES, Bodies, GetBodies, encode_body

ANSWER_TIMEOUT_S: Final = 0.5
"""How long one holder is waited for before the next is asked."""


@dataclass(slots=True)
class _Wanted:
    missing: set[Digest]
    found: dict[Digest, Transaction] = field(default_factory=dict)
    answered: asyncio.Event = field(default_factory=asyncio.Event)


class BodyExchange:
    """Asks peers for transactions by full digest, and answers the same question.

    Parameters
    ----------
    find : callable
        ``find(block, digests)`` yields those of the transactions that this node holds.
    """

    def __init__(
        self,
        transport: Transport,
        find: Callable[[Digest, Sequence[Digest]], Iterable[Transaction]],
    ) -> None:
        self._transport = transport
        self._find = find
        self._wanted: dict[Digest, _Wanted] = {}

    async def fetch(
        self,
        block: Digest,
        missing: Iterable[Digest],
        holders: Callable[[], Sequence[Address]],
    ) -> dict[Digest, Transaction]:
        """Return the missing transactions of `block`, asking its holders in turn until all came.

        Parameters
        ----------
        holders : callable
            Returns the node ids to ask, best first; asked again each turn, as votes bring more.

        Notes
        -----
        Ends only with all of them; the caller cancels it when the block is not wanted any more.
        """
        wanted = self._wanted.setdefault(block, _Wanted(missing=set(missing)))
        try:
            turn = 0
            while wanted.missing:
                peers = holders()
                wanted.answered.clear()
                if peers:
                    self._ask(peers[turn % len(peers)], block, wanted)
                turn += 1
                try:
                    async with asyncio.timeout(ANSWER_TIMEOUT_S):
                        await wanted.answered.wait()
                except TimeoutError:
                    continue
            return wanted.found
        finally:
            self._wanted.pop(block, None)

    def on_bodies(self, answer: Bodies) -> None:
        """Take an answer; what was not asked for is dropped.

        Raises
        ------
        DecodeError
            It holds bytes that are no transaction.
        """
        wanted = self._wanted.get(answer.block)
        if wanted is None:
            return
        for wire in answer.wires:
            transaction = decode_transaction(wire)
            if transaction.digest in wanted.missing:
                wanted.missing.discard(transaction.digest)
                wanted.found[transaction.digest] = transaction
        wanted.answered.set()

    def on_get_bodies(self, peer: Address, request: GetBodies) -> None:
        """Answer a peer with those of the transactions that are here."""
        wires = tuple([found.wire for found in self._find(request.block, request.digests)])
        answer = encode_body(BODIES, Bodies(block=request.block, wires=wires))
        self._transport.send(peer, BODIES, answer)

    def _ask(self, peer: Address, block: Digest, wanted: _Wanted) -> None:
        request = GetBodies(block=block, digests=tuple(sorted(wanted.missing)))
        self._transport.send(peer, GET_BODIES, encode_body(GET_BODIES, request))
