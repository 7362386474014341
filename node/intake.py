"""Where transactions enter a node: from clients, from peers, and from its own detector.

Each is decoded, its signature verified once off the event loop, judged by Algorithm 1 as advice,
and pooled. Only a receipt makes it final.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from chain.admission import expected_key
from chain.errors import DecodeError, Rejection, SecureNetError
from chain.kinds.base import BlockContext
from chain.records import DEVICE_TABLE
from chain.transactions import Transaction, decode_transaction, full_digest
from chain.transition import check_admission, open_context
from chain.types import Address, Digest, PublicKey, TimestampMs
from node.api import Submission
from node.errors import MempoolFull
from node.gossip import Gossip
from node.mempool import Mempool
from node.metrics import Metrics
from node.ports import Clock
from node.storage.chain_store import ChainStore
from node.verification import Verifier

PEER_BATCHES_MAX: Final = 64
"""Batches of one peer that wait to be admitted; further ones are dropped and counted."""
WORK_CANDIDATES: Final = 64
"""How many pooled transactions are looked at, at the most, to find one that a block may hold."""
BAD_BATCH_POINTS: Final = 5

log = structlog.get_logger(__name__)


class Intake:
    """Admits transactions into the pool.

    Parameters
    ----------
    miner : Address
        This node, as the M of Algorithm 1; an observer's id is no miner's and admits nothing.
    on_work : callable
        Told when the pool has got something new.
    penalise : callable
        ``penalise(peer, points, reason)`` for what no honest peer sends.
    """

    def __init__(
        self,
        *,
        chain: ChainStore,
        mempool: Mempool,
        verifier: Verifier,
        gossip: Gossip,
        clock: Clock,
        metrics: Metrics,
        miner: Address,
        on_work: Callable[[], None],
        penalise: Callable[[Address, int, str], None],
    ) -> None:
        self._chain = chain
        self._mempool = mempool
        self._verifier = verifier
        self._gossip = gossip
        self._clock = clock
        self._metrics = metrics
        self._miner = miner
        self._on_work = on_work
        self._penalise = penalise
        # What was pooled since the last block counts against the rates, as if it stood in it.
        self._sent: dict[Address, int] = {}
        self._sent_height = -1
        self._batches: dict[Address, deque[tuple[bytes, ...]]] = {}
        self._arrived = asyncio.Event()

    async def submit(
        self, wires: Sequence[bytes], *, source: Address | None = None
    ) -> list[Submission]:
        """Admit transactions given in their bytes; one result each, in order.

        Parameters
        ----------
        source : Address, optional
            The peer they came from; None for this node's own clients, whose transactions are sent
            on to the other miners.
        """
        results: list[Submission | None] = [None] * len(wires)
        decoded: list[tuple[int, Transaction]] = []
        for index, wire in enumerate(wires):
            # Peers send again what they believe lost; most of it is here and costs one hash.
            pooled = self._mempool.get(full_digest(wire))
            if pooled is not None:
                results[index] = Submission(id=pooled.id, error=None)
                continue
            try:
                decoded.append((index, decode_transaction(wire)))
            except DecodeError as error:
                results[index] = self._refused(None, error, "malformed")
        await self._verify([transaction for _, transaction in decoded])
        block = self._context()
        is_new = False
        for index, transaction in decoded:
            refusal = self._admit(transaction, block, source)
            is_new = is_new or refusal is None
            results[index] = Submission(id=transaction.id, error=refusal)
        if is_new:
            self._on_work()
        return [result for result in results if result is not None]

    def on_transactions(self, peer: Address, wires: tuple[bytes, ...]) -> None:
        """Take a batch from a peer; it is admitted in its turn."""
        waiting = self._batches.setdefault(peer, deque())
        if len(waiting) >= PEER_BATCHES_MAX:
            self._metrics.peer_refused("intake_full")
            return
        waiting.append(wires)
        self._arrived.set()

    async def run(self) -> None:
        """Admit what peers send, a batch of each in turn, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._batches:
                for peer in list(self._batches):
                    waiting = self._batches[peer]
                    wires = waiting.popleft()
                    if not waiting:
                        del self._batches[peer]
                    results = await self.submit(wires, source=peer)
                    if any(_is_hostile(result.error) for result in results):
                        self._penalise(peer, BAD_BATCH_POINTS, "bad transactions")

    def has_work(self) -> bool:
        """Tell whether some pooled transaction would stand in the next block; drop those found bad.

        A pool of nothing but refused transactions must not wake consensus, for there would be no
        block to agree on.
        """
        parameters = self._context().parameters
        self._mempool.expire(
            self._clock.wall_ms(),
            parameters.transaction_lifetime_ms,
            floor_ms=parameters.lifetime_floor_ms,
        )
        block = open_context(
            self._chain.tip, proposer=self._miner, time_ms=TimestampMs(self._clock.wall_ms())
        )
        for transaction in self._mempool.take(WORK_CANDIDATES, 2**62):
            try:
                check_admission(transaction, block, self._verifier.check)
            except Rejection as error:
                self._mempool.reject(transaction, error.code)
            else:
                return True
        return False

    def _admit(
        self, transaction: Transaction, block: BlockContext, source: Address | None
    ) -> SecureNetError | None:
        try:
            admitted = check_admission(transaction, block, self._verifier.check)
            self._mempool.add(
                transaction,
                lane=admitted.kind.lane,
                source=source,
                gateway=self._gateway_of(transaction, admitted.kind.metered),
            )
        except Rejection as error:
            self._mempool.reject(transaction, error.code)
            self._metrics.admission_rejected(error.code)
            return error
        except MempoolFull as error:
            self._metrics.admission_rejected("mempool_full")
            return error
        for subject in admitted.subjects:
            block.recent.charge(subject)
        if source is None:
            self._gossip.add(transaction)
        return None

    async def _verify(self, transactions: Sequence[Transaction]) -> None:
        """Verify ahead, off the event loop, under the keys that Algorithm 1 will ask for."""
        wanted: list[tuple[Transaction, PublicKey]] = []
        for transaction in transactions:
            key = expected_key(transaction, self._chain.state)
            if key is not None and not self._verifier.is_known(transaction, key):
                wanted.append((transaction, key))
        if wanted:
            await self._verifier.verify_many(wanted)

    def _context(self) -> BlockContext:
        if self._sent_height != self._chain.height:
            self._sent_height = self._chain.height
            self._sent = {}
        return open_context(
            self._chain.tip,
            proposer=self._miner,
            time_ms=TimestampMs(self._clock.wall_ms()),
            sent=self._sent,
        )

    def _gateway_of(self, transaction: Transaction, is_metered: bool) -> Address | None:
        if not is_metered:
            return None
        device = self._chain.state.get(DEVICE_TABLE, transaction.payload.sender)
        return None if device is None else device.gateway

    def _refused(self, id: Digest | None, error: SecureNetError, code: str) -> Submission:
        self._metrics.admission_rejected(code)
        return Submission(id=id, error=error)


def _is_hostile(error: SecureNetError | None) -> bool:
    """Tell what an honest peer, which checked the same, does not send on."""
    if isinstance(error, DecodeError):
        return True
    return isinstance(error, Rejection) and error.code in ("bad_signature", "wrong_chain")
