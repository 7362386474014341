"""Fetching the transactions of a proposal that this node does not hold, and answering for them.

Proposals name transactions by full digest; what the pool does not hold is asked for from the
proposer, then from others that attested to hold the block. A proposal overtakes transactions on the
way, so what is asked for may come by itself before the answer does, and is as good.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from chain.errors import DecodeError, InvalidBlock
from chain.transactions import Transaction, decode_transaction, full_digest
from chain.types import Address, Digest
from node.p2p.limits import SECOND_NS, TokenBucket
from node.ports import Transport
from node.protocol import BODIES, GET_BODIES, Bodies, GetBodies, encode_body

ANSWER_TIMEOUT_S: Final = 0.5
"""How long one holder is waited for before the next is asked, and how long all of them rest after
each has been asked."""
MALFORMED_POINTS: Final = 50
ANSWERED_PER_SECOND: Final = 8 * 1024 * 1024
ANSWERED_BURST_SIZE: Final = 32 * 1024 * 1024
"""Bytes that one peer is answered: many times what it can miss of the largest blocks. To encode and
encrypt more for whoever asks again and again would leave no time for consensus."""
EXCESS_POINTS: Final = 1


@dataclass(slots=True)
class _Wanted:
    """The transactions of one block that are missing.

    Attributes
    ----------
    room : int
        Bytes that the block may still have.
    owing : set of Address
        Peers that were asked and have not answered: an answer of anybody else is dropped.
    """

    missing: set[Digest]
    room: int
    found: dict[Digest, Transaction] = field(default_factory=dict)
    owing: set[Address] = field(default_factory=set)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, wires: Sequence[bytes]) -> None:
        """Keep those that are missing, and end all waiting with the last of them.

        Raises
        ------
        DecodeError
            One that is missing cannot be read.
        """
        for wire in wires:
            digest = full_digest(wire)
            if digest in self.missing and self.room >= 0:
                self.found[digest] = decode_transaction(wire)
                self.missing.discard(digest)
                self.room -= len(wire)
        if not self.missing or self.room < 0:
            self.answered.set()
            self.complete.set()


class BodyExchange:
    """Asks peers for transactions by full digest, and answers the same question.

    Parameters
    ----------
    find : callable
        ``find(block, digests)`` yields those of the transactions that this node holds, no more
        than fit into one message.
    """

    def __init__(
        self,
        transport: Transport,
        find: Callable[[Digest, Sequence[Digest]], Iterable[Transaction]],
    ) -> None:
        self._transport = transport
        self._find = find
        self._wanted: dict[Digest, _Wanted] = {}
        # One for each peer that has asked.
        self._allowances: dict[Address, TokenBucket] = {}

    async def fetch(
        self,
        block: Digest,
        missing: Iterable[Digest],
        holders: Callable[[], Sequence[Address]],
        *,
        size_max: int,
    ) -> dict[Digest, Transaction]:
        """Return the missing transactions of `block`, asking its holders in turn until all came.

        Parameters
        ----------
        holders : callable
            Returns the node ids to ask, best first; asked again each turn, as votes bring more.
        size_max : int
            Bytes that the missing transactions may have together.

        Raises
        ------
        InvalidBlock
            They have more.

        Notes
        -----
        Ends only with all of them; the caller cancels it when the block is not wanted any more. A
        later call for the same block takes over from an earlier one that is being cancelled.
        """
        wanted = _Wanted(missing=set(missing), room=size_max)
        self._wanted[block] = wanted
        asked: set[Address] = set()
        try:
            while wanted.missing and wanted.room >= 0:
                peer = next((holder for holder in holders() if holder not in asked), None)
                if peer is None:
                    # Holders that answer at once with nothing are not asked at once again.
                    asked.clear()
                    await _wait(wanted.complete)
                    continue
                asked.add(peer)
                wanted.answered.clear()
                if self._ask(peer, block, wanted):
                    await _wait(wanted.answered)
            if wanted.room < 0:
                raise InvalidBlock("its transactions are more bytes than a block may have")
            return wanted.found
        finally:
            if self._wanted.get(block) is wanted:
                del self._wanted[block]

    def on_bodies(self, peer: Address, answer: Bodies) -> None:
        """Take the answer of a peer that was asked; what was not asked for is dropped."""
        wanted = self._wanted.get(answer.block)
        if wanted is None or peer not in wanted.owing:
            return
        wanted.owing.discard(peer)
        try:
            wanted.take(answer.wires)
        except DecodeError as error:
            # Whoever holds a transaction has read it.
            self._transport.penalise(peer, MALFORMED_POINTS, str(error))
        wanted.answered.set()

    def on_transactions(self, wires: Sequence[bytes]) -> None:
        """Look for what is missing among transactions that came for the pool, before that judges.

        Nobody is penalised here for what cannot be read: whoever pools them does so.
        """
        for wanted in self._wanted.values():
            with suppress(DecodeError):
                wanted.take(wires)

    def on_get_bodies(self, peer: Address, request: GetBodies) -> None:
        """Answer a peer with those of the transactions that are here, unless it asks too much."""
        wires = tuple([found.wire for found in self._find(request.block, request.digests)])
        allowance = self._allowances.get(peer)
        if allowance is None:
            allowance = TokenBucket(ANSWERED_PER_SECOND, ANSWERED_BURST_SIZE)
            self._allowances[peer] = allowance
        now_ns = int(asyncio.get_running_loop().time() * SECOND_NS)
        if not allowance.take(now_ns, sum(map(len, wires))):
            self._transport.penalise(peer, EXCESS_POINTS, "bodies asked for again and again")
            return
        answer = encode_body(BODIES, Bodies(block=request.block, wires=wires))
        self._transport.send(peer, BODIES, answer)

    def _ask(self, peer: Address, block: Digest, wanted: _Wanted) -> bool:
        request = GetBodies(block=block, digests=tuple(sorted(wanted.missing)))
        wanted.owing.add(peer)
        return self._transport.send(peer, GET_BODIES, encode_body(GET_BODIES, request))


async def _wait(event: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            await event.wait()
    except TimeoutError:
        pass  # whoever waits looks at what is missing
