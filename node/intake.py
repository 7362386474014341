"""Where transactions enter a node: from clients, from peers, and from its own detector.

Each is decoded, its signature verified once off the event loop, judged by Algorithm 1 as advice,
and pooled. Only a receipt makes it final.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from chain.admission import Verify
from chain.errors import DecodeError, Rejection, SecureNetError
from chain.kinds.base import BlockContext, Standing
from chain.records.devices import DEVICE_TABLE
from chain.state import parameters_of
from chain.transactions import Transaction, decode_transaction, full_digest
from chain.transition import check_admission, open_context, steps
from chain.types import Address, Digest, TimestampMs
from node.api import Submission
from node.errors import MempoolFull
from node.gossip import Gossip
from node.mempool import Added, Mempool
from node.metrics import Metrics
from node.ports import Clock
from node.storage.chain_store import ChainStore
from node.verification import Verifier

PEER_BATCHES_MAX: Final = 1_024
PEER_SIZE_MAX: Final = 8 * 1024 * 1024
"""Batches of one peer, and their bytes, that wait to be admitted; more are dropped and counted."""
WORK_CANDIDATES: Final = 64
"""How many pooled transactions are looked at, at the most, to find one that a block may hold."""
HOSTILE_POINTS: Final = 20
"""Price of a batch with what no honest node accepts, whatever its state."""
BAD_SIGNATURES_PER_POINT: Final = 64
"""Signatures of one peer's transactions that do not verify, until it is penalised. An honest peer
sends some on where a device has changed its key in a block that only one of both has yet; in a
flood they cost this node the verification, so they cannot be free."""
_WRONG_FOR_ALL: Final = ("wrong_chain", "not_proven")
"""Which key a miner has at a height is decided before that begins, so evidence that it has not
signed is none for anybody who takes evidence of that height."""

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
        # What was pooled since the last block counts against the rates, as if it stood in it, for
        # as long as it may come to.
        self._sent: dict[Address, int] = {}
        self._charged: dict[Digest, Sequence[Address]] = {}
        mempool.on_dropped = self._release
        self._standings: dict[tuple[str, Address], Standing] = {}
        self._sent_height = -1
        self._batches: dict[Address, _Waiting] = {}
        # What the batches name and is not admitted yet, with the peer that sent it first.
        self._wires: dict[Digest, tuple[Address, bytes]] = {}
        # Below `BAD_SIGNATURES_PER_POINT` each, and an entry for each peer that has sent any.
        self._bad_signatures: Counter[Address] = Counter()
        self._arrived = asyncio.Event()

    @property
    def waiting_count(self) -> int:
        """How many transactions of peers wait to be admitted."""
        return len(self._wires)

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
        results: list[Submission] = []
        for step in steps(wires, size_of=len):
            if results:
                await asyncio.sleep(0)
            results += await self._submit_some(step, source)
        return results

    async def _submit_some(
        self, wires: Sequence[bytes], source: Address | None
    ) -> list[Submission]:
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
        verify = await self._verify([transaction for _, transaction in decoded])
        block = self._context()
        is_new = False
        for index, transaction in decoded:
            refusal = self._admit(transaction, block, verify, source)
            is_new = is_new or refusal is None
            results[index] = Submission(id=transaction.id, error=refusal)
        if is_new:
            self._on_work()
        return [result for result in results if result is not None]

    def has_room(self, peer: Address, size: int) -> bool:
        """Tell whether another batch of so many bytes may wait; asked before it is decoded."""
        waiting = self._batches.get(peer)
        return waiting is None or (
            len(waiting.batches) < PEER_BATCHES_MAX and waiting.size + size <= PEER_SIZE_MAX
        )

    def on_transactions(self, peer: Address, wires: tuple[bytes, ...]) -> None:
        """Take a batch from a peer, for which there is room; it is admitted in its turn."""
        digests = [full_digest(wire) for wire in wires]
        for digest, wire in zip(digests, wires, strict=True):
            self._wires.setdefault(digest, (peer, wire))
        size = sum(map(len, wires))
        waiting = self._batches.setdefault(peer, _Waiting())
        waiting.batches.append((digests, size))
        waiting.size += size
        self._arrived.set()

    async def run(self) -> None:
        """Admit what peers send, a batch of each in turn, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._batches:
                turn: list[Digest] = []
                for peer in list(self._batches):
                    waiting = self._batches[peer]
                    digests, size = waiting.batches.popleft()
                    waiting.size -= size
                    if not waiting.batches:
                        del self._batches[peer]
                    turn += digests
                await self.admit_waiting(turn)

    async def admit_waiting(self, digests: Iterable[Digest]) -> None:
        """Admit those of the transactions that have come from peers and wait, before all others.

        A proposed block often names what its proposer has sent a moment ago: asking for that again
        would have it sent, read and judged twice.
        """
        by_peer: dict[Address, dict[Digest, bytes]] = {}
        for digest in digests:
            found = self._wires.get(digest)
            if found is not None:
                by_peer.setdefault(found[0], {})[digest] = found[1]
        # At once, so that the signatures of all are verified together.
        async with asyncio.TaskGroup() as group:
            for peer, sent in by_peer.items():
                group.create_task(self._admit_from(peer, sent))

    async def _admit_from(self, peer: Address, sent: Mapping[Digest, bytes]) -> None:
        results = await self.submit(list(sent.values()), source=peer)
        # Not before: what was being admitted when its caller gave up goes on waiting. And whoever
        # else has admitted it meanwhile has judged it.
        left = [self._wires.pop(digest, None) is not None for digest in sent]
        self._judge(peer, [result for result, mine in zip(results, left, strict=True) if mine])

    def _judge(self, peer: Address, results: Sequence[Submission]) -> None:
        """Penalise a peer for transactions that an honest one, which checked them, keeps back."""
        if any(_is_hostile(result.error) for result in results):
            self._penalise(peer, HOSTILE_POINTS, "transactions that no node accepts")
        self._bad_signatures[peer] += sum(_is_badly_signed(result.error) for result in results)
        points, rest = divmod(self._bad_signatures.pop(peer), BAD_SIGNATURES_PER_POINT)
        if rest:
            self._bad_signatures[peer] = rest
        if points:
            self._penalise(peer, points, "bad signatures")

    def has_work(self) -> bool:
        """Tell whether some pooled transaction would stand in the next block; drop those found bad.

        A pool of nothing but refused transactions must not wake consensus, for there would be no
        block to agree on. Neither must one that is too old before a round is over: where it came
        too late for the proposer, the round would fail, and the proposer be blamed for nothing.
        """
        self.expire()
        parameters = parameters_of(self._chain.state)
        lifetime_ms = parameters.transaction_lifetime_ms
        # Half a lifetime at most: of rounds as long as that, everything would be too old.
        round_ms = min(parameters.round_timeout_ms, lifetime_ms // 2)
        block = open_context(self._chain.tip, proposer=self._miner, time_ms=self._next_time_ms())
        for transaction in self._mempool.take(WORK_CANDIDATES, 2**62):
            try:
                check_admission(transaction, block, self._verifier.check)
            except Rejection as error:
                self._mempool.reject(transaction, error.code)
            else:
                if transaction.payload.time_ms > block.time_ms + round_ms - lifetime_ms:
                    return True
        return False

    def expire(self) -> None:
        """Drop what has become too old for a block, also while no block is made."""
        parameters = parameters_of(self._chain.state)
        self._mempool.expire(
            self._next_time_ms(),
            parameters.transaction_lifetime_ms,
            floor_ms=parameters.lifetime_floor_ms,
        )

    def _admit(
        self,
        transaction: Transaction,
        block: BlockContext,
        verify: Verify,
        source: Address | None,
    ) -> SecureNetError | None:
        try:
            admitted = check_admission(transaction, block, verify)
            added = self._mempool.add(
                transaction,
                lane=admitted.kind.lane,
                source=source,
                gateway=self._gateway_of(transaction, admitted.kind.metered),
            )
        except Rejection as error:
            # Of a bad signature the id says nothing: the original may come yet, or have been here.
            if error.code != "bad_signature":
                self._mempool.reject(transaction, error.code)
            self._metrics.admission_rejected(error.code)
            return error
        except MempoolFull as error:
            self._metrics.admission_rejected("mempool_full")
            return error
        if added is not Added.NEW:
            # It came twice at once, or again under another signature: charged and sent on already.
            return None
        if admitted.subjects:
            self._charged[transaction.id] = admitted.subjects
        for subject in admitted.subjects:
            block.recent.charge(subject)
        if source is None:
            self._gossip.add(transaction)
        return None

    async def _verify(self, transactions: Sequence[Transaction]) -> Verify:
        """Verify ahead, off the event loop, under the keys that Algorithm 1 will ask for.

        Returns
        -------
        callable
            VERIFYSIG, which knows the bad answers as well, so that nothing is verified again here.
        """
        wanted = self._verifier.unknown(transactions, self._chain.state)
        answers = await self._verifier.verify_many(wanted) if wanted else []
        bad = {
            (transaction.digest, key)
            for (transaction, key), is_good in zip(wanted, answers, strict=True)
            if not is_good
        }
        if not bad:
            return self._verifier.check
        return lambda transaction, key: (
            (transaction.digest, key) not in bad and self._verifier.check(transaction, key)
        )

    def _context(self) -> BlockContext:
        if self._sent_height != self._chain.height:
            self._sent_height = self._chain.height
            self._sent = {}
            self._charged = {}
            self._standings = {}
        return open_context(
            self._chain.tip,
            proposer=self._miner,
            time_ms=self._next_time_ms(),
            sent=self._sent,
            standings=self._standings,
        )

    def _release(self, transaction_id: Digest) -> None:
        """Take back the charges for what has left the pool and will stand in no block."""
        for subject in self._charged.pop(transaction_id, ()):
            self._sent[subject] -= 1

    def _next_time_ms(self) -> TimestampMs:
        return self._chain.tip.next_time_ms(self._clock.wall_ms())

    def _gateway_of(self, transaction: Transaction, is_metered: bool) -> Address | None:
        if not is_metered:
            return None
        device = self._chain.state.get(DEVICE_TABLE, transaction.payload.sender)
        return None if device is None else device.gateway

    def _refused(self, id: Digest | None, error: SecureNetError, code: str) -> Submission:
        self._metrics.admission_rejected(code)
        return Submission(id=id, error=error)


@dataclass(slots=True)
class _Waiting:
    batches: deque[tuple[list[Digest], int]] = field(default_factory=deque)
    size: int = 0


def _is_hostile(error: SecureNetError | None) -> bool:
    """Tell what is wrong for everybody, whatever the state of the chain."""
    if isinstance(error, DecodeError):
        return True
    return isinstance(error, Rejection) and error.code in _WRONG_FOR_ALL


def _is_badly_signed(error: SecureNetError | None) -> bool:
    return isinstance(error, Rejection) and error.code == "bad_signature"
