"""The committed chain of a node: blocks, indexes and state in one key-value store.

A block becomes part of it by one synced write batch with everything that belongs to it, so that
after a kill at any instant the node opens at a block boundary with all of it or nothing.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chain.blocks import (
    HEADER as HEADER_RECORD,
)
from chain.blocks import (
    Block,
    Header,
    encode_block,
)
from chain.certificate import CERTIFICATE as CERTIFICATE_RECORD
from chain.certificate import CommitCertificate
from chain.errors import DecodeError
from chain.genesis import GENESIS, Genesis, genesis_header, genesis_miners, genesis_state
from chain.kinds.evidence import KIND as EVIDENCE
from chain.kinds.evidence import Equivocation
from chain.lookback import LOOKBACK_MS_MAX, BlockSummary, Lookback, Reach
from chain.miners import encode_miners
from chain.parameters import VERDICT_WINDOW
from chain.state import MemorySource, State, parameters_of
from chain.state_range import Entry
from chain.state_tree import StateTree
from chain.transition import Execution, Tip, advance, summarise
from chain.types import Address, Digest
from node.errors import ConfigError, CorruptStore
from node.ports import Executor, KeyValueStore, WriteBatch
from node.storage import pruning, schema
from node.storage.adoption import adopt
from node.storage.chain_reader import ChainReader, Place
from node.storage.kv import prefix_end
from node.storage.state_source import StateSource

UNDO_BLOCKS: Final = 1_000
"""How many blocks a stopped node can go back."""
RECENT_BLOCKS: Final = 4
"""Blocks that stay in memory after their commit, for many ask for them just then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateView:
    """The state after a block, held still while the chain goes on.

    Parameters
    ----------
    entries : iterator of Entry
        All of it, as of the moment in which `tree` was the state's.
    """

    header: Header
    tree: StateTree
    entries: Iterator[Entry]


class ChainStore(ChainReader):
    """Committed blocks and state.

    Parameters
    ----------
    store : KeyValueStore
        Empty, or written by a node of the same chain.
    genesis : Genesis
        The chain's beginning; written where the store is empty.
    executor : Executor
        Writes run there.
    path : Path
        Where the store is, for messages.

    Raises
    ------
    ConfigError
        The store belongs to another chain.
    CorruptStore
        The store does not hold what a node writes.
    """

    def __init__(
        self, store: KeyValueStore, genesis: Genesis, executor: Executor, *, path: Path
    ) -> None:
        super().__init__(store, path)
        self._executor = executor
        self.genesis = genesis
        self._begin()
        self._source = StateSource(store)
        state = State(self._source)
        height = self._stored_height()
        self._first = self._stored_first(height)
        header = self.header(height)
        if header is None:
            raise self._damaged("the header of the last block is missing")
        if state.root != header.state_root:
            raise self._damaged(f"the state is not the one of block {header.height}")
        self.tip = Tip(header=header, state=state, recent=Lookback())
        # Looked up once: what was deleted makes every further scan slow until tables are merged.
        self._proposals = {key for key, _ in self._scan(schema.PROPOSED)}
        if height and self._store.get(schema.UNDO + schema.height_bytes(height)) is None:
            # A store that was not written block by block, or by a program that kept none of them.
            self._begin_undo(height + 1)
        self._fill_lookback()

    @property
    def height(self) -> int:
        """Height of the last committed block."""
        return self.tip.header.height

    @property
    def state(self) -> State:
        """The state after the last committed block."""
        return self.tip.state

    def locate(self, id: Digest) -> Place | None:
        """Return where a transaction of a block up to the tip stands, or None."""
        place = super().locate(id)
        # A block is in the store an instant before it is the tip: by then all say it, or none does.
        return None if place is None or place[0] > self.height else place

    def spared_from(self) -> int:
        """Return the lowest height that pruning has to spare.

        What is above, rules look at, or will after the node has gone back `UNDO_BLOCKS` blocks.
        """
        base = max(self.first(schema.HEADER), self.height - UNDO_BLOCKS)
        first = self.first_after(self._time_of(base) - LOOKBACK_MS_MAX, base)
        return max(0, min(first, base - VERDICT_WINDOW))

    def first_after(self, time_ms: int, height: int) -> int:
        """Return the lowest height up to `height`, of those with a header, with a later time."""
        heights = range(self.first(schema.HEADER), height)
        return heights.start + bisect_right(heights, time_ms, key=self._time_of)

    def view(self) -> StateView:
        """Return the state as it is at this call, whatever is committed later."""
        stored = self._store.scan(start=schema.STATE, stop=prefix_end(schema.STATE))
        return StateView(
            header=self.tip.header,
            tree=self.tip.state.tree,
            entries=((key[1:], value) for key, value in stored),
        )

    # Writing

    async def store_evidence(self, body: Equivocation) -> None:
        """Put a contradiction on disk, synced; it replaces what is stored against its miner."""
        batch = WriteBatch()
        batch.put(schema.EVIDENCE + body.miner, EVIDENCE.body.encode(body))
        await self._executor.run(self._store.write, batch)

    async def forget_evidence(self, miner: Address) -> None:
        """Delete what is stored against a miner."""
        batch = WriteBatch()
        batch.delete(schema.EVIDENCE + miner)
        await self._executor.run(self._store.write, batch)

    async def store_proposed(self, block: Block) -> None:
        """Put a proposed block on disk, synced: whoever votes for it holds its bodies."""
        key = schema.PROPOSED + block.header.hash
        batch = WriteBatch()
        batch.put(key, encode_block(block))
        try:
            await self._executor.run(self._store.write, batch)
        finally:
            # Also where the caller is cancelled: the write goes on.
            self._proposals.add(key)

    async def commit(
        self, execution: Execution, block: Block, certificate: CommitCertificate
    ) -> None:
        """Make `block` the tip, in one synced batch with all that belongs to it.

        Raises
        ------
        StorageError
            The medium refused; the tip is as before.
        """
        assert block.header.height == self.height + 1, "blocks are committed in order"
        assert certificate.digest == execution.header.hash, "the certificate proves this block"
        settled = sorted(self._proposals)
        self._source.hold(iter(execution.delta))
        try:
            await self._executor.run(self._write, execution, block, certificate, settled)
        finally:
            self._source.release()
        self._proposals.difference_update(settled)
        # Not before: to advance reads the parameters, and the state remembers what it has read.
        self.tip = advance(self.tip, execution)
        self._first = {**self._first, schema.UNDO: self._first_undo(self.height)}
        self._recent[self.height] = (block, execution.receipts, execution.block_receipt)
        self._recent.pop(self.height - RECENT_BLOCKS, None)

    async def prune(self, what: bytes, below: int) -> int:
        """Do a bounded step towards keeping a class of `pruning` only from height `below` on.

        Returns
        -------
        int
            How many transactions, or blocks' receipts, were removed.

        Raises
        ------
        DamagedEntry
            What is to go cannot be read.
        """
        assert below <= self.spared_from(), "rules still look at it"
        step = await self._executor.run(self._plan_step, what, below)
        # Before it is so: who finds nothing is told why. A block may have been committed meanwhile.
        self._first = {**self._first, **step.first}
        await self._executor.run(self._store.write, step.batch)
        return step.gone

    async def compact(self, heights: range) -> None:
        """Give the room of what was pruned at `heights` back, but for that in scattered indexes."""
        await self._executor.run(pruning.compact_heights, self._store, heights)

    async def compact_indexes(self, part: int) -> None:
        """Give the room of what was pruned from scattered indexes back, for a part of them."""
        await self._executor.run(pruning.compact_indexes, self._store, part)

    def _plan_step(self, what: bytes, below: int) -> pruning.Step:
        try:
            return pruning.plan_step(self._store, what, self._first, below)
        except (DecodeError, CorruptStore) as error:
            key = schema.BODY + schema.height_bytes(self.first(what))
            raise self._entry_damaged(key, str(error)) from error

    def _write(
        self,
        execution: Execution,
        block: Block,
        certificate: CommitCertificate,
        settled: Sequence[bytes],
    ) -> None:
        header = execution.header
        batch = WriteBatch()
        batch.writes.update(
            block_entries(
                block,
                certificate,
                receipts=schema.encode_receipts(execution.receipts, execution.block_receipt),
                summary=execution.summary,
            )
        )
        if header.next_miner_set_hash != header.miner_set_hash:
            miners = encode_miners(execution.next_miners)
            batch.put(schema.MINERS + header.next_miner_set_hash, miners)
        height = schema.height_bytes(header.height)
        batch.put(schema.UNDO + height, schema.encode_undo(self._source.held))
        if header.height > UNDO_BLOCKS:
            batch.delete(schema.UNDO + schema.height_bytes(header.height - UNDO_BLOCKS))
        first = self._first_undo(header.height)
        if first > 1:
            batch.put(schema.first_key(schema.UNDO), schema.height_bytes(first))
        for key, changed in execution.delta.items():
            if changed is None:
                batch.delete(schema.STATE + key)
            else:
                batch.put(schema.STATE + key, changed)
        for key in settled:
            batch.delete(key)
        batch.put(schema.TIP_KEY, height)
        self._store.write(batch)

    def close(self) -> None:
        """Release the store."""
        self._store.close()

    # Opening

    def _begin(self) -> None:
        written = self._store.get(schema.GENESIS_KEY)
        ours = GENESIS.encode(self.genesis)
        if written is not None:
            if written != ours:
                raise other_chain(self.path)
            adopt(self._store)
            return
        if next(self._store.scan(start=b"", stop=b"\xff"), None) is not None:
            raise self._damaged("the genesis document of this chain is missing")
        entries = genesis_state(self.genesis)
        state = State(MemorySource(entries))
        header = genesis_header(self.genesis, state.root)
        height = schema.height_bytes(0)
        batch = WriteBatch()
        batch.put(schema.GENESIS_KEY, ours)
        batch.put(schema.HEADER + height, HEADER_RECORD.encode(header))
        batch.put(schema.BODY + height, schema.encode_body([]))
        batch.put(schema.HASH + header.hash, height)
        miners = genesis_miners(self.genesis)
        batch.put(schema.MINERS + miners.hash, encode_miners(miners))
        for key, value in entries.items():
            assert value is not None, "genesis removes nothing"
            batch.put(schema.STATE + key, value)
        batch.put(schema.TIP_KEY, height)
        self._store.write(batch)

    def _stored_height(self) -> int:
        data = self._store.get(schema.TIP_KEY)
        if data is None or len(data) != schema.HEIGHT_SIZE:
            raise self._damaged("the height of the last block is missing")
        return int.from_bytes(data, "big")

    def _first_undo(self, height: int) -> int:
        """Return the lowest block that can be taken back once `height` is committed."""
        return max(self.first(schema.UNDO), height - UNDO_BLOCKS + 1)

    def _begin_undo(self, first: int) -> None:
        batch = WriteBatch()
        batch.put(schema.first_key(schema.UNDO), schema.height_bytes(first))
        self._store.write(batch)
        self._first[schema.UNDO] = first

    def _stored_first(self, tip: int) -> dict[bytes, int]:
        first = {}
        for key, value in self._scan(schema.FIRST):
            height = schema.read_height(value)
            if len(value) != schema.HEIGHT_SIZE or height > tip + 1:
                raise self._damaged("from which height on it is kept is not known")
            first[key.removeprefix(schema.FIRST)] = height
        return first

    def _time_of(self, height: int) -> int:
        header = self.header(height)
        if header is None:
            raise self._damaged(f"the header of block {height} is missing")
        return header.time_ms

    def _fill_lookback(self) -> None:
        """Take in the summaries of the recent blocks, as far back as any rule looks."""
        parameters = parameters_of(self.tip.state)
        reach = Reach.of(self.tip.header, parameters)
        first = self.height
        # Who keeps no header below keeps what rules look at, and no more.
        while first > max(1, self.first(schema.HEADER)):
            header = self.header(first - 1)
            if header is None:
                raise self._damaged(f"the header of block {first - 1} is missing")
            if not reach.contains(header):
                break
            first -= 1
        for height in range(max(first, 1), self.height + 1):
            self.tip.recent.append(self._summary(height, reach.ids_after_ms), parameters)

    def _summary(self, height: int, ids_after_ms: int) -> BlockSummary:
        summary = self._of_block(
            schema.SUMMARY,
            height,
            lambda data: schema.decode_summary(data, height, ids_after_ms=ids_after_ms),
        )
        if summary is not None:
            return summary
        # A block of a program that stored none.
        block = self.block(height)
        if block is None:
            raise self._damaged(f"block {height} is missing")
        return summarise(block, self.tip.state)


def other_chain(path: Path) -> ConfigError:
    """Return what is to be said of a home whose database is of another chain than its genesis."""
    return ConfigError(
        "genesis.json",
        f"{path} belongs to another chain; take the genesis document that it was started with, or "
        "another home directory",
    )


def block_entries(
    block: Block, certificate: CommitCertificate, *, receipts: bytes, summary: BlockSummary
) -> dict[bytes, bytes]:
    """Return the entries of a committed block: its parts and all indexes.

    Parameters
    ----------
    receipts : bytes
        As `schema.encode_receipts` gives them.
    """
    header = block.header
    height = schema.height_bytes(header.height)
    wires = [transaction.wire for transaction in block.transactions]
    entries = {
        schema.HEADER + height: HEADER_RECORD.encode(header),
        schema.BODY + height: schema.encode_body(wires),
        schema.CERTIFICATE + height: CERTIFICATE_RECORD.encode(certificate),
        schema.RECEIPTS + height: receipts,
        schema.SUMMARY + height: schema.encode_summary(summary),
        schema.HASH + header.hash: height,
    }
    for index, transaction in enumerate(block.transactions):
        entries.update(pruning.index_entries(transaction, header.height, index))
    return entries
