"""Making blocks and checking those of others, on top of the committed chain.

Both execute the block and put it on disk before they answer, for a vote promises that the voter
holds what it votes for. The result is kept until the height is decided, so that committing is one
write.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from chain.blocks import Block
from chain.errors import InvalidBlock, Rejection
from chain.state import heartbeat_ms_of, parameters_of
from chain.transactions import TRANSACTION_SIZE_MAX, Transaction
from chain.transition import BlockExecution, Execution, checking, steps
from chain.types import Address, Digest, Round
from consensus.messages import Proposal
from node.block_size import BlockSize
from node.bodies import BodyExchange
from node.mempool import Mempool
from node.ports import Clock
from node.storage.chain_store import ChainStore
from node.verification import Verifier

CANDIDATES_MAX: Final = 64
"""Executed blocks of one height that are kept; beyond it the oldest is executed again if needed."""
STORED_MAX: Final = 4
"""Blocks from before a restart that stay decoded, for their voters are asked for them."""

FEW: Final = 16
"""So few transactions are not why a round fails; where the network loses messages, blocks of one
would only make everybody wait."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A block of the next height that was executed and stored here."""

    block: Block
    execution: Execution


class BlockMaker:
    """Builds and checks blocks of the next height.

    Parameters
    ----------
    admit : callable
        Brings into the pool what of a proposal has come already and waits to be admitted.
    miner : Address
        This node's miner id.
    """

    def __init__(
        self,
        *,
        chain: ChainStore,
        mempool: Mempool,
        verifier: Verifier,
        bodies: BodyExchange,
        admit: Callable[[Sequence[Digest]], Awaitable[None]],
        clock: Clock,
        miner: Address,
    ) -> None:
        self._chain = chain
        self._mempool = mempool
        self._verifier = verifier
        self._bodies = bodies
        self._admit = admit
        self._clock = clock
        self._miner = miner
        self._candidates: dict[Digest, Candidate] = {}
        self._stored: dict[Digest, Block] = {}
        self._size = BlockSize()

    @property
    def candidate_count(self) -> int:
        """How many blocks of the open height it holds."""
        return len(self._candidates)

    async def recall(self, digest: Digest) -> Candidate | None:
        """Return a block that was checked here, executing it again if that was before a restart.

        The replica remembers from its log what it has attested; the block itself is on disk, unless
        the disk has lost it: None then.
        """
        candidate = self._candidates.get(digest)
        if candidate is not None:
            return candidate
        block = self._proposed(digest)
        execution = None if block is None else await self.execute(block)
        if block is None or execution is None:
            return None
        return Candidate(block=block, execution=execution)

    def on_committed(self, round: Round) -> None:
        """Drop all candidates: their height is decided, and was in `round`."""
        self._size.on_committed(round)
        self._candidates.clear()
        self._stored.clear()

    async def build(self, *, round: Round, limit_shift: int) -> Proposal | None:
        """Build a block of what is pending, execute it and store it durably.

        Returns
        -------
        Proposal or None
            None where no block is due: nothing pending passes, and an empty block would be
            refused; or the chain has moved on meanwhile.
        """
        tip = self._chain.tip
        parameters = parameters_of(tip.state)
        time_ms = tip.next_time_ms(self._clock.wall_ms())
        execution = BlockExecution(
            tip,
            proposer=self._miner,
            proposal_round=round,
            time_ms=time_ms,
            verify=self._verifier.check,
        )
        count_max = max(
            1, self._size.of(parameters.block_transactions_max, least=FEW) >> limit_shift
        )
        bytes_max = max(
            TRANSACTION_SIZE_MAX, self._size.of(parameters.block_bytes_max) >> limit_shift
        )
        taken: list[Transaction] = []
        # Again where nothing of it passes, and has left the pool: there is more behind it.
        while not taken and (pending := self._mempool.take(count_max, bytes_max)):
            for step in steps(pending, size_of=lambda transaction: len(transaction.wire)):
                for transaction in step:
                    try:
                        execution.apply(transaction)
                    except Rejection as error:
                        self._mempool.reject(transaction, error.code)
                    else:
                        taken.append(transaction)
                await asyncio.sleep(0)
                if self._chain.tip is not tip:
                    return None
        is_due = time_ms >= tip.header.time_ms + heartbeat_ms_of(tip.state)
        if not taken and round == 0 and not is_due:
            return None
        result = execution.finish()
        block = Block(header=result.header, transactions=tuple(taken))
        return await self._keep(block, result)

    async def check(self, proposal: Proposal, holders: Callable[[], Sequence[Address]]) -> None:
        """Fetch what is missing of a proposed block, check every rule, and store it durably.

        Where the chain moves on meanwhile it returns early, and nobody waits for the answer.

        Raises
        ------
        InvalidBlock
            The block breaks a rule, and always will.
        """
        if proposal.digest in self._candidates:
            return
        # Before anything is fetched: a proposer may name more than it has to show.
        count_max = parameters_of(self._chain.state).block_transactions_max
        if len(proposal.digests) > count_max:
            raise InvalidBlock(f"{len(proposal.digests)} transactions, at most {count_max}")
        transactions = await self._transactions_of(proposal, holders)
        block = Block(header=proposal.header, transactions=transactions)
        execution = await self.execute(block)
        if execution is not None:
            await self._keep(block, execution)

    async def execute(self, block: Block) -> Execution | None:
        """Check every rule of a block by executing it; None where the chain has moved on.

        Raises
        ------
        InvalidBlock
            The block breaks a rule.
        """
        known = self._candidates.get(block.header.hash)
        if known is not None:
            return known.execution
        tip = self._chain.tip
        await self._verify_ahead(block.transactions)
        check = checking(tip, block, self._verifier.check)
        while self._chain.tip is tip:
            try:
                next(check)
            except StopIteration as end:
                execution: Execution = end.value
                return execution
            await asyncio.sleep(0)
        return None

    def find(self, block: Digest, digests: Sequence[Digest]) -> list[Transaction]:
        """Return those of the transactions that are held here, for a peer that misses them.

        Each once, and no more than a block may hold, whatever the peer asks for.
        """
        held = self._held(block)
        found: Iterable[Transaction | None]
        if held is None:
            found = map(self._mempool.get, dict.fromkeys(digests))
        else:
            wanted = set(digests)
            found = [known for known in held.transactions if known.digest in wanted]
        room = parameters_of(self._chain.state).block_bytes_max
        answer: list[Transaction] = []
        for transaction in found:
            if transaction is not None:
                room -= len(transaction.wire)
                if room < 0:
                    break
                answer.append(transaction)
        return answer

    def proposal(self, digest: Digest) -> Proposal | None:
        """Return header and digests of a block that is held here."""
        block = self._held(digest)
        return None if block is None else _proposal_of(block)

    def _held(self, digest: Digest) -> Block | None:
        """Return a block that peers may ask for: of this height, or committed a moment ago."""
        candidate = self._candidates.get(digest)
        if candidate is not None:
            return candidate.block
        return self._chain.recent(digest) or self._proposed(digest)

    def _proposed(self, digest: Digest) -> Block | None:
        """Return a block that was stored here before a restart, decoded once."""
        block = self._stored.get(digest) or self._chain.proposed(digest)
        if block is not None:
            self._stored[digest] = block
            if len(self._stored) > STORED_MAX:
                del self._stored[next(iter(self._stored))]
        return block

    async def _transactions_of(
        self, proposal: Proposal, holders: Callable[[], Sequence[Address]]
    ) -> tuple[Transaction, ...]:
        stored = self._proposed(proposal.digest)
        if stored is not None:
            return stored.transactions
        await self._admit(proposal.digests)
        found: dict[Digest, Transaction] = {}
        for digest in proposal.digests:
            pooled = self._mempool.get(digest)
            if pooled is not None:
                found[digest] = pooled
        missing = [digest for digest in proposal.digests if digest not in found]
        if missing:
            size = sum([len(transaction.wire) for transaction in found.values()])
            size_max = parameters_of(self._chain.state).block_bytes_max - size
            found |= await self._bodies.fetch(proposal.digest, missing, holders, size_max=size_max)
        return tuple([found[digest] for digest in proposal.digests])

    async def _verify_ahead(self, transactions: Sequence[Transaction]) -> None:
        """Verify signatures that are not known yet in one batch, off the event loop."""
        wanted = self._verifier.unknown(transactions, self._chain.state)
        if wanted:
            await self._verifier.verify_many(wanted)

    async def _keep(self, block: Block, execution: Execution) -> Proposal:
        await self._chain.store_proposed(block)
        if len(self._candidates) >= CANDIDATES_MAX:
            del self._candidates[next(iter(self._candidates))]
        self._candidates[block.header.hash] = Candidate(block=block, execution=execution)
        return _proposal_of(block)


def _proposal_of(block: Block) -> Proposal:
    digests = tuple([transaction.digest for transaction in block.transactions])
    return Proposal(header=block.header, digests=digests)
