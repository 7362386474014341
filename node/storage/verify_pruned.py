"""Checking a database that does not keep the whole chain.

Nobody can execute it anew. But headers and certificates prove one another, their roots prove what
is kept of transactions and receipts, the state's root the state, and the state taken back block for
block the roots before it. What follows from a transaction that is kept must be there, and nothing
of one that is not.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from chain.blocks import Block, Header, decode_header, receipt_leaves, transaction_root
from chain.certificate import decode_certificate
from chain.errors import DecodeError, InvalidBlock, InvalidCertificate
from chain.genesis import Genesis, genesis_header, genesis_miners, genesis_state
from chain.history import History
from chain.miners import MinerSet, decode_miners
from chain.parameters import VERDICT_WINDOW
from chain.state import MemorySource, State, miner_sets_of
from chain.state_tree import StateTree
from chain.transactions import decode_transaction
from chain.transition import summarise
from chain.types import Digest
from node.ports import KeyValueStore
from node.storage import schema
from node.storage.findings import Entries, Finding
from node.storage.pruning import TRANSACTION_CLASSES, class_of, index_entries, remains_of

_OF_NOTHING: Final = transaction_root([])
"""The root of a block without transactions, of which there is nothing to prune."""


class CheckPruned(Entries):
    """The way for a database of which something was pruned."""

    def __init__(
        self, store: KeyValueStore, genesis: Genesis, progress: Callable[[int, int], None]
    ) -> None:
        super().__init__(store)
        self._genesis = genesis_header(genesis, State(MemorySource(genesis_state(genesis))).root)
        self._founders = genesis_miners(genesis)
        self._progress = progress
        self._first: Mapping[bytes, int] = {}
        self._tip = 0
        self._sets: set[Digest] = set()
        self._roots: dict[int, Digest] = {}
        self._heights = dict.fromkeys(
            (schema.BODY, schema.REMAINS, schema.RECEIPTS, schema.SUMMARY), 0
        )

    def run(self, tip: int, first: Mapping[bytes, int]) -> Iterator[Finding]:
        """Yield what is wrong; `first` says from where on each class is kept."""
        self._tip, self._first = tip, first
        yield from self._check_firsts()
        try:
            history = self._begin()
        except (DecodeError, InvalidBlock) as error:
            yield Finding(where="first header", what=str(error))
            return
        yield from self.check_genesis(self._genesis, self._founders)
        for height in range(history.header.height + 1, tip + 1):
            yield from self._check_block(history, height)
            if history.header.height < height:
                yield Finding(
                    where=f"block {height}", what=f"what follows, up to {tip}, was not checked"
                )
                return
            self._progress(height, tip)
        yield from self._check_state(history.header)
        headers = tip + 1 if self._from(schema.HEADER) <= 1 else tip + 2 - self._from(schema.HEADER)
        yield from self.check_counts(
            {
                **self._heights,
                schema.BODY: self._heights[schema.BODY] + 1,
                schema.HEADER: headers,
                schema.CERTIFICATE: tip + 1 - max(1, self._from(schema.CERTIFICATE)),
                schema.MINERS: len(self._sets),
                schema.UNDO: tip + 1 - max(1, self._from(schema.UNDO)),
            }
        )
        yield from self.check_proposed()
        yield from self.check_evidence()
        yield from self.check_strangers()

    def _from(self, what: bytes) -> int:
        return self._first.get(what, 0)

    def _check_firsts(self) -> Iterator[Finding]:
        """Check that the heights from which on classes are kept agree with one another."""
        headers = self._from(schema.HEADER)
        whole = max(headers, *map(self._from, TRANSACTION_CLASSES))
        if self._from(schema.BODY) != whole:
            yield Finding(where="meta first b", what=f"{whole} follows from the other classes")
        if self._from(schema.RECEIPTS) > min(map(self._from, TRANSACTION_CLASSES)):
            yield Finding(where="meta first r", what="receipts of transactions that are kept")
        if self._from(schema.SUMMARY) != self._from(schema.TELEMETRY):
            yield Finding(where="meta first l", what="not where telemetry is kept from")

    def _begin(self) -> History:
        """Return the history at genesis, or at the first header that is kept."""
        header, miners = self._genesis, self._founders
        first = self._from(schema.HEADER)
        if first > 1:
            header = self._header(first)
            miners = self._miners(header.next_miner_set_hash)
            self._sets.add(header.miner_set_hash)
        self._sets |= {self._founders.hash, miners.hash}
        self._roots[header.height] = header.state_root
        return History(header, miners)

    def _check_block(self, history: History, height: int) -> Iterator[Finding]:
        key = schema.height_bytes(height)
        where = f"header {height}"
        try:
            header = self._header(height)
            where = f"certificate {height}"
            certificate = decode_certificate(self._get(schema.CERTIFICATE + key))
            where = f"body {height}"
            remains = remains_of(self.store, height)
            where = f"receipts {height}"
            receipts = self._receipt_leaves(height)
            where = f"block {height}"
            miners = None
            if header.next_miner_set_hash != header.miner_set_hash:
                miners = self._miners(header.next_miner_set_hash)
                self._sets.add(miners.hash)
            history.follow(
                header,
                certificate,
                next_miners=miners,
                full_digests=None if remains is None else remains.digests,
                receipt_leaves=receipts,
            )
        except (DecodeError, InvalidBlock, InvalidCertificate) as error:
            yield Finding(where=where, what=str(error))
            return
        self._roots[height] = header.state_root
        entries = {schema.HASH + header.hash: key}
        if remains is None:
            if height >= self._from(schema.BODY) or header.transaction_root == _OF_NOTHING:
                yield Finding(where=f"body {height}", what="missing")
        else:
            yield from self._check_remains(remains, height, entries)
        yield from self.compare(entries, height)

    def _check_remains(
        self, remains: schema.Remains, height: int, entries: dict[bytes, bytes]
    ) -> Iterator[Finding]:
        """Check which transactions of a block are kept, and add what their indexes hold."""
        is_whole = None not in remains.wires
        self._heights[schema.BODY if is_whole else schema.REMAINS] += 1
        if not is_whole and height >= self._from(schema.BODY):
            yield Finding(where=f"body {height}", what="not whole, and nothing says so")
        for index, wire in enumerate(remains.wires):
            if wire is None:
                continue
            try:
                transaction = decode_transaction(wire)
            except DecodeError as error:
                yield Finding(where=f"body {height}", what=str(error))
                continue
            if height < self._from(class_of(transaction)):
                yield Finding(where=f"body {height}", what="a transaction that was to be pruned")
            entries.update(index_entries(transaction, height, index))

    def _receipt_leaves(self, height: int) -> list[bytes] | None:
        if height < self._from(schema.RECEIPTS):
            return None
        data = self._get(schema.RECEIPTS + schema.height_bytes(height))
        self._heights[schema.RECEIPTS] += 1
        return receipt_leaves(schema.decode_receipts(data), schema.decode_block_receipt(data))

    def _check_state(self, header: Header) -> Iterator[Finding]:
        """Check the state of the tip, and that it leads back to the states before."""
        source = MemorySource({key[1:]: value for key, value in self.scan(schema.STATE)})
        tree = StateTree().updated(source.entries)
        if tree.root != header.state_root:
            yield Finding(where="state", what="not the one that the last header names")
            return
        state = State(source)
        self._sets |= {miners.hash for miners in miner_sets_of(state)}
        for height in range(max(1, self._from(schema.SUMMARY)), self._tip + 1):
            yield from self._check_summary(height, state)
        for height in range(self._tip, max(1, self._from(schema.UNDO)) - 1, -1):
            try:
                before = schema.decode_undo(self._get(schema.UNDO + schema.height_bytes(height)))
            except DecodeError as error:
                yield Finding(where=f"undo of block {height}", what=str(error))
                return
            tree = tree.updated(before)
            if height - 1 in self._roots and tree.root != self._roots[height - 1]:
                yield Finding(where=f"undo of block {height}", what="leads to another state")
                return

    def _check_summary(self, height: int, state: State) -> Iterator[Finding]:
        """Compare a summary with its block, if that is whole."""
        key = schema.height_bytes(height)
        where = f"summary of block {height}"
        self._heights[schema.SUMMARY] += 1
        try:
            data = self._get(schema.SUMMARY + key)
            found = schema.decode_summary(data, height, ids_after_ms=-1)
            remains = remains_of(self.store, height)
            if remains is None or None in remains.wires:
                return
            transactions = [decode_transaction(wire) for wire in remains.wires if wire is not None]
            block = Block(header=self._header(height), transactions=tuple(transactions))
        except DecodeError as error:
            yield Finding(where=where, what=str(error))
            return
        expected = summarise(block, state)
        if height <= self._tip - VERDICT_WINDOW:
            # Which model judged them need not be known any more.
            expected = replace(expected, flows=found.flows, judged=found.judged)
        if found != expected:
            yield Finding(where=where, what="not what the block gives")

    def _header(self, height: int) -> Header:
        return decode_header(self._get(schema.HEADER + schema.height_bytes(height)))

    def _miners(self, set_hash: Digest) -> MinerSet:
        return decode_miners(self._get(schema.MINERS + set_hash))

    def _get(self, key: bytes) -> bytes:
        data = self.store.get(key)
        if data is None:
            raise DecodeError(schema.entry_name(key), "missing")
        return data
