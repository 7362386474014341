"""The committed chain of a node: blocks, indexes and state in one key-value store.

A block becomes part of it by one synced write batch with everything that belongs to it, so that
after a kill at any instant the node opens at a block boundary with all of it or nothing.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from heapq import merge
from pathlib import Path
from typing import Final, TypeVar

from chain.blocks import (
    HEADER as HEADER_RECORD,
)
from chain.blocks import (
    Block,
    BlockReceipt,
    Header,
    Receipt,
    decode_block,
    decode_header,
    encode_block,
)
from chain.certificate import CERTIFICATE as CERTIFICATE_RECORD
from chain.certificate import CommitCertificate, decode_certificate
from chain.errors import DecodeError
from chain.genesis import GENESIS, Genesis, genesis_header, genesis_miners, genesis_state
from chain.kinds.evidence import KIND as EVIDENCE
from chain.kinds.evidence import Equivocation
from chain.lookback import LOOKBACK_MS_MAX, BlockSummary, Lookback, Reach
from chain.miners import MinerSet, decode_miners, encode_miners
from chain.parameters import VERDICT_WINDOW
from chain.state import MemorySource, State, parameters_of
from chain.state_range import Entry
from chain.state_tree import StateTree
from chain.transactions import Transaction, decode_transaction
from chain.transition import Execution, Tip, advance, summarise
from chain.types import Address, Digest
from node.errors import ConfigError, CorruptStore, DamagedEntry, Pruned
from node.light_walk import Decided
from node.past import PastBlock, decode_decided, unpack_decided
from node.ports import Executor, KeyValueStore, WriteBatch
from node.storage import pruning, schema
from node.storage.adoption import adopt
from node.storage.kv import prefix_end

T = TypeVar("T")

Place = tuple[int, int]
"""Height and index of a transaction."""

PAGE_MAX: Final = 1_000
UNDO_BLOCKS: Final = 1_000
"""How many blocks a stopped node can go back."""
RECENT_BLOCKS: Final = 4
"""Blocks that stay in memory after their commit, for many ask for them just then."""


class StateSource:
    """The state entries of the store, as they are after the tip.

    While a block is being written, the values that it changes are held here, so that readers see
    the state of the tip and never one half of each.
    """

    def __init__(self, store: KeyValueStore) -> None:
        self._store = store
        self._held: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a state key."""
        if self._held and key in self._held:
            return self._held[key]
        return self._store.get(schema.STATE + key)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Iterate the entries under `prefix`, those behind `after`, in key order."""
        first, stop = (after + b"\x00" if after else prefix), prefix_end(schema.STATE + prefix)
        stored = (
            (key[1:], value)
            for key, value in self._store.scan(start=schema.STATE + first, stop=stop)
        )
        if not self._held:
            return stored
        held = self._held
        shown = {
            key: value
            for key, value in held.items()
            if value is not None and key.startswith(prefix) and key > after
        }
        others = (entry for entry in stored if entry[0] not in held)
        return merge(others, sorted(shown.items()))

    def hold(self, keys: Iterator[bytes]) -> None:
        """Keep the present values of `keys` in sight."""
        self._held = {key: self._store.get(schema.STATE + key) for key in keys}

    def release(self) -> None:
        """Show what the store holds again."""
        self._held = {}

    @property
    def held(self) -> Mapping[bytes, bytes | None]:
        """What is kept in sight: the entries that a block changes, as they were before it."""
        return self._held


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedTransaction:
    """A transaction that is final."""

    height: int
    transaction: Transaction
    receipt: Receipt


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


class ChainStore:
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
        self._store = store
        self._executor = executor
        self.path = path
        self.genesis = genesis
        self._recent: dict[int, tuple[Block, tuple[Receipt, ...], BlockReceipt]] = {}
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

    def first(self, what: bytes) -> int:
        """Return the lowest height for which a class of data is kept; block 0 always is.

        Parameters
        ----------
        what : bytes
            The letter of the class in `schema`.
        """
        return self._first.get(what, 0)

    @property
    def whole_from(self) -> int:
        """The lowest height from which on everything that may be pruned is kept."""
        return max(self.first(what) for what in schema.KEPT_APART.values())

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

    # Reading: each raises `DamagedEntry` where an entry is not what was written, and those of a
    # height `Pruned` where the chain has it and this node does not keep it.

    def header(self, height: int) -> Header | None:
        """Return a committed header, or None."""
        return self._of_block(schema.HEADER, height, decode_header)

    def block(self, height: int) -> Block | None:
        """Return a committed block, or None."""
        recent = self._recent.get(height)
        if recent is not None:
            return recent[0]
        header = self.header(height)
        transactions = self._of_block(schema.BODY, height, _decode_transactions)
        if header is None or transactions is None:
            return None
        return Block(header=header, transactions=transactions)

    def recent(self, block_hash: Digest) -> Block | None:
        """Return one of the last blocks, which are in memory, or None."""
        for block, _, _ in self._recent.values():
            if block.header.hash == block_hash:
                return block
        return None

    def wires(self, height: int) -> tuple[bytes, ...] | None:
        """Return the bytes of a committed block's transactions, unread, or None."""
        return self._of_block(schema.BODY, height, schema.decode_body)

    def remains(self, height: int) -> schema.Remains | None:
        """Return what is kept of the transactions of a committed block, or None.

        May be called from any thread.

        Raises
        ------
        Pruned
            Nothing of it is kept.
        """
        key = schema.height_bytes(height)
        found = self._load(schema.BODY + key, lambda data: schema.whole(schema.decode_body(data)))
        if found is None:
            found = self._load(schema.REMAINS + key, schema.decode_remains)
        if found is None and 0 < height < self.first(schema.BODY):
            raise Pruned(schema.entry_name(schema.BODY + key), first=self.first(schema.BODY))
        return found

    def encoded(self, height: int) -> tuple[bytes, bytes] | None:
        """Return the bytes of a committed block and of its certificate, unread, or None.

        May be called from any thread.
        """
        header, body, certificate = (
            self._of_block(prefix, height, bytes)
            for prefix in (schema.HEADER, schema.BODY, schema.CERTIFICATE)
        )
        if header is None or body is None or certificate is None:
            return None
        return schema.join_block(header, body), certificate

    def first_block(self) -> int:
        """Return the lowest height from which on this node has whole blocks to give."""
        return max(map(self.first, (schema.HEADER, schema.BODY, schema.CERTIFICATE)))

    def encoded_receipts(self, height: int) -> bytes | None:
        """Return the bytes of a committed block's receipts, unread, or None."""
        return self._of_block(schema.RECEIPTS, height, bytes)

    def decided_from(self, height: int) -> Decided | None:
        """Return the header of a height, or the next that is kept, with what proves it, or None.

        May be called from any thread.
        """
        start, stop = schema.WAYPOINT + schema.height_bytes(height), prefix_end(schema.WAYPOINT)
        for key, data in self._store.scan(start=start, stop=stop):
            try:
                return unpack_decided(decode_decided(data))
            except DecodeError as error:
                raise self._entry_damaged(key, str(error)) from error
        height = max(height, self.first(schema.HEADER), self.first(schema.CERTIFICATE))
        header, certificate = self.header(height), self.certificate(height)
        miners = None if header is None else self.miners(header.miner_set_hash)
        if header is None or certificate is None or miners is None:
            return None
        return Decided(header=header, certificate=certificate, miners=miners)

    def past_block(self, height: int) -> PastBlock | None:
        """Return a committed block with everything that belongs to it, in bytes, or None.

        May be called from any thread.
        """
        stored, receipts = self.encoded(height), self.encoded_receipts(height)
        header = self.header(height)
        miners = None if header is None else self.miners(header.miner_set_hash)
        if stored is None or receipts is None or miners is None:
            return None
        return PastBlock(
            block=stored[0], certificate=stored[1], receipts=receipts, miners=encode_miners(miners)
        )

    def view(self) -> StateView:
        """Return the state as it is at this call, whatever is committed later."""
        stored = self._store.scan(start=schema.STATE, stop=prefix_end(schema.STATE))
        return StateView(
            header=self.tip.header,
            tree=self.tip.state.tree,
            entries=((key[1:], value) for key, value in stored),
        )

    def certificate(self, height: int) -> CommitCertificate | None:
        """Return the certificate of a committed block; None for genesis."""
        return self._of_block(schema.CERTIFICATE, height, decode_certificate)

    def receipts(self, height: int) -> tuple[Receipt, ...]:
        """Return the receipts of a committed block's transactions."""
        recent = self._recent.get(height)
        if recent is not None:
            return recent[1]
        return self._of_block(schema.RECEIPTS, height, schema.decode_receipts) or ()

    def block_receipt(self, height: int) -> BlockReceipt:
        """Return what the end of a committed block brought about; nothing for genesis."""
        recent = self._recent.get(height)
        if recent is not None:
            return recent[2]
        found = self._of_block(schema.RECEIPTS, height, schema.decode_block_receipt)
        return BlockReceipt(events=()) if found is None else found

    def miners(self, set_hash: Digest) -> MinerSet | None:
        """Return a set of miners that decides, or has decided, heights of this chain, or None."""
        return self._load(schema.MINERS + set_hash, decode_miners)

    def height_of(self, block_hash: Digest) -> int | None:
        """Return the height of a committed block, or None."""
        return self._load(schema.HASH + block_hash, schema.read_height)

    def locate(self, id: Digest) -> Place | None:
        """Return where a committed transaction stands, or None."""
        return self._load(schema.transaction_key(id), schema.read_place)

    def transaction(self, id: Digest) -> CommittedTransaction | None:
        """Return a committed transaction with its receipt, reading no other of its block."""
        place = self.locate(id)
        if place is None:
            return None
        height, index = place
        recent = self._recent.get(height)
        if recent is not None:
            transaction, receipt = recent[0].transactions[index], recent[1][index]
            return CommittedTransaction(height=height, transaction=transaction, receipt=receipt)
        kept = self._kept(height, index)
        found = self._of_block(
            schema.RECEIPTS, height, lambda data: schema.decode_receipt(data, index)
        )
        if kept is None or found is None:
            if self.locate(id) is None:
                return None  # pruned between the two looks
            raise self._index_damaged(schema.BODY if kept is None else schema.RECEIPTS, height)
        return CommittedTransaction(height=height, transaction=kept, receipt=found)

    def transactions_of(
        self, sender: Address, *, after: Place | None, limit: int
    ) -> list[tuple[int, int, Digest]]:
        """Return height, index and id of a sender's transactions behind `after`, oldest first."""
        return self._page(schema.SENDER + sender, after, limit)

    def verdict_transactions(
        self, *, after: Place | None, limit: int
    ) -> list[tuple[int, int, Digest]]:
        """Return height, index and id of the verdict transactions behind `after`, oldest first."""
        return self._page(schema.VERDICT, after, limit)

    def proposed(self, block_hash: Digest) -> Block | None:
        """Return a block that was stored before a vote on it, or None."""
        return self._load(schema.PROPOSED + block_hash, decode_block)

    def open_evidence(self) -> tuple[Equivocation, ...]:
        """Return the contradictions that were stored and not forgotten, by the accused's id."""
        found = []
        for key, _ in self._scan(schema.EVIDENCE):
            body = self._load(key, EVIDENCE.decode_bytes)
            assert body is not None, "the key has just been seen"
            found.append(body)
        return tuple(found)

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
        batch = WriteBatch()
        batch.put(schema.PROPOSED + block.header.hash, encode_block(block))
        await self._executor.run(self._store.write, batch)

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
        self._source.hold(iter(execution.delta))
        try:
            await self._executor.run(self._write, execution, block, certificate)
        finally:
            self._source.release()
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
        # Before it is so: who finds nothing is told why.
        self._first = dict(step.first)
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

    def _write(self, execution: Execution, block: Block, certificate: CommitCertificate) -> None:
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
        for key, _ in self._scan(schema.PROPOSED):
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
                raise ConfigError(
                    "genesis.json",
                    f"{self.path} belongs to another chain; take the genesis document that it was "
                    "started with, or another home directory",
                )
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

    def _page(
        self, prefix: bytes, after: Place | None, limit: int
    ) -> list[tuple[int, int, Digest]]:
        start = prefix if after is None else prefix + schema.place_bytes(*after) + b"\x00"
        page: list[tuple[int, int, Digest]] = []
        try:
            for key, id in self._store.scan(start=start, stop=prefix_end(prefix)):
                if len(page) == min(limit, PAGE_MAX):
                    break
                height, index = schema.read_place(key[-schema.PLACE_SIZE :])
                page.append((height, index, Digest(id)))
        except CorruptStore as error:
            raise self._entry_damaged(start, error.reason) from error
        return page

    def _scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._store.scan(start=prefix, stop=prefix_end(prefix))

    def _of_block(self, prefix: bytes, height: int, decode: Callable[[bytes], T]) -> T | None:
        """Return the decoded entry of a class that belongs to a block, or None.

        Raises
        ------
        Pruned
            This node does not keep it.
        """
        key = prefix + schema.height_bytes(height)
        found = self._load(key, decode)
        if found is None and 0 < height < self.first(prefix):
            raise Pruned(schema.entry_name(key), first=self.first(prefix))
        return found

    def _kept(self, height: int, index: int) -> Transaction | None:
        """Return one transaction of a block, reading no other, or None where it is not kept."""

        def of_remains(data: bytes) -> Transaction | None:
            wire = schema.decode_remains(data).wires[index]
            return None if wire is None else decode_transaction(wire)

        key = schema.height_bytes(height)
        return self._load(
            schema.BODY + key, lambda data: decode_transaction(schema.decode_body(data)[index])
        ) or self._load(schema.REMAINS + key, of_remains)

    def _index_damaged(self, prefix: bytes, height: int) -> DamagedEntry:
        key = prefix + schema.height_bytes(height)
        return self._entry_damaged(key, "an index names it, and it is missing")

    def _load(self, key: bytes, decode: Callable[[bytes], T]) -> T | None:
        """Return the decoded entry under a key, or None where there is none."""
        try:
            data = self._store.get(key)
            return None if data is None else decode(data)
        except CorruptStore as error:
            raise self._entry_damaged(key, error.reason) from error
        except DecodeError as error:
            raise self._entry_damaged(key, str(error)) from error

    def _entry_damaged(self, key: bytes, cause: str) -> DamagedEntry:
        return DamagedEntry(self.path, entry=schema.entry_name(key), key=key, cause=cause)

    def _damaged(self, what: str) -> CorruptStore:
        return CorruptStore(
            self.path, f"{what}; `securenet db verify` tells more, a backup or the peers help"
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


def _decode_transactions(body: bytes) -> tuple[Transaction, ...]:
    return tuple([decode_transaction(wire) for wire in schema.decode_body(body)])
