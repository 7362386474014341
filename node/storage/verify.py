"""Checking a whole database: every block again from genesis, and every entry beside it.

The chain is executed anew in memory and compared with what is stored, so that a bit flipped in a
block, an index or a state entry is named. Signatures of transactions are not verified again: the
root over them is under the certificate of the miners.
"""

from collections.abc import Callable, Iterator, Mapping

from chain.blocks import Block, decode_header
from chain.certificate import decode_certificate
from chain.errors import DecodeError, InvalidBlock, InvalidCertificate, InvalidGenesis
from chain.genesis import (
    GENESIS,
    Genesis,
    decode_genesis,
    genesis_header,
    genesis_miners,
    genesis_state,
)
from chain.light_client import verify_header
from chain.lookback import Lookback
from chain.miners import encode_miners
from chain.state import MemorySource, State, miner_sets_of
from chain.transactions import decode_transaction
from chain.transition import Execution, Tip, advance, check_block
from chain.types import Digest
from node.errors import CorruptStore
from node.ports import KeyValueStore
from node.storage import schema
from node.storage.adoption import adopt
from node.storage.findings import Entries, Finding
from node.storage.kv import prefix_end
from node.storage.pruning import index_entries
from node.storage.verify_pruned import CheckPruned
from node.storage.verify_snapshots import check_snapshots


def is_of_other_chain(store: KeyValueStore, genesis: Genesis) -> bool:
    """Tell whether a database was begun with another genesis document than this."""
    stored = store.get(schema.GENESIS_KEY)
    if stored is None or stored == GENESIS.encode(genesis):
        return False
    try:
        decode_genesis(stored)
    except (DecodeError, InvalidGenesis):
        return False
    return True


def verify_store(
    store: KeyValueStore,
    genesis: Genesis,
    progress: Callable[[int, int], None] = lambda height, tip: None,
) -> Iterator[Finding]:
    """Yield what is wrong with the database of a node of this chain; nothing for a sound one.

    A chain from a snapshot that waits to take the place of the one before does so first.

    Parameters
    ----------
    progress : callable, optional
        Told ``(height, height of the tip)`` after each block.
    """
    try:
        yield from _verify(store, genesis, progress)
        for where, what in check_snapshots(store):
            yield Finding(where=where, what=what)
    except CorruptStore as error:
        # LevelDB's own checksums: nothing behind this point can be read.
        yield Finding(where="database files", what=str(error))


def _verify(
    store: KeyValueStore, genesis: Genesis, progress: Callable[[int, int], None]
) -> Iterator[Finding]:
    if store.get(schema.GENESIS_KEY) != GENESIS.encode(genesis):
        yield Finding(where="meta genesis", what="missing or malformed")
        return
    # As at every opening: until then the entries may be those of neither chain.
    adopt(store)
    stored = store.get(schema.TIP_KEY)
    if stored is None or len(stored) != schema.HEIGHT_SIZE:
        yield Finding(where="meta tip", what="missing or malformed")
        return
    tip = schema.read_height(stored)
    first: dict[bytes, int] = {}
    for key, value in store.scan(start=schema.FIRST, stop=prefix_end(schema.FIRST)):
        first[key.removeprefix(schema.FIRST)] = schema.read_height(value)
        if len(value) != schema.HEIGHT_SIZE or schema.read_height(value) > tip + 1:
            yield Finding(where=f"meta {key[1:].decode(errors='replace')}", what="malformed")
            return
    if max((first.get(what, 0) for what in schema.KEPT_APART.values()), default=0) > 1:
        yield from CheckPruned(store, genesis, progress).run(tip, first)
    else:
        yield from _Check(store, genesis, progress).run(tip, first)


class _Check(Entries):
    """The way for a database with every block: the chain is executed anew."""

    def __init__(
        self, store: KeyValueStore, genesis: Genesis, progress: Callable[[int, int], None]
    ) -> None:
        super().__init__(store)
        self._genesis = genesis
        self._progress = progress
        self._source = MemorySource(genesis_state(genesis))
        state = State(self._source)
        header = genesis_header(genesis, state.root)
        self._tip = Tip(header=header, state=state, recent=Lookback())
        self._sets: set[Digest] = set()

    def run(self, tip: int, first: Mapping[bytes, int]) -> Iterator[Finding]:
        miners = genesis_miners(self._genesis)
        self._sets.add(miners.hash)
        yield from self.check_genesis(self._tip.header, miners)
        for height in range(1, tip + 1):
            findings = list(self._check_block(height, first.get(schema.UNDO, 0)))
            yield from findings
            if self._tip.header.height < height:
                yield Finding(
                    where=f"block {height}", what=f"what follows, up to {tip}, was not checked"
                )
                return
            self._progress(height, tip)
        yield from self._check_state()
        counts = dict.fromkeys((schema.CERTIFICATE, schema.RECEIPTS, schema.SUMMARY), tip)
        counts[schema.HEADER] = counts[schema.BODY] = tip + 1
        counts[schema.REMAINS] = 0
        counts[schema.MINERS] = len(self._sets)
        counts[schema.UNDO] = tip + 1 - max(1, first.get(schema.UNDO, 0))
        yield from self.check_counts(counts)
        yield from self.check_proposed()
        yield from self.check_evidence()
        yield from self.check_strangers()

    def _check_block(self, height: int, first_undo: int) -> Iterator[Finding]:
        key = schema.height_bytes(height)
        where = f"header {height}"
        try:
            parts = [self.store.get(prefix + key) for prefix in (schema.HEADER, schema.BODY)]
            header_data, body = parts
            if header_data is None or body is None:
                missing = "header" if header_data is None else "body"
                yield Finding(where=f"{missing} {height}", what="missing")
                return
            header = decode_header(header_data)
            where = f"body {height}"
            wires = schema.decode_body(body)
            block = Block(
                header=header, transactions=tuple([decode_transaction(wire) for wire in wires])
            )
        except DecodeError as error:
            yield Finding(where=where, what=str(error))
            return
        yield from self._check_certificate(block)
        try:
            execution = check_block(self._tip, block, lambda transaction, key: True)
        except InvalidBlock as error:
            yield Finding(where=f"block {height}", what=str(error))
            return
        yield from self.compare(self._entries(block, execution, first_undo), height)
        self._source.apply(execution.delta)
        self._tip = advance(self._tip, execution)

    def _check_certificate(self, block: Block) -> Iterator[Finding]:
        height = block.header.height
        data = self.store.get(schema.CERTIFICATE + schema.height_bytes(height))
        if data is None:
            yield Finding(where=f"certificate {height}", what="missing")
            return
        miners, _ = miner_sets_of(self._tip.state)
        try:
            verify_header(block.header, decode_certificate(data), miners)
        except (DecodeError, InvalidCertificate) as error:
            yield Finding(where=f"certificate {height}", what=str(error))

    def _entries(self, block: Block, execution: Execution, first_undo: int) -> dict[bytes, bytes]:
        """Return the entries that belong to a block beside header, body and certificate."""
        height = block.header.height
        key = schema.height_bytes(height)
        entries = {
            schema.RECEIPTS + key: schema.encode_receipts(
                execution.receipts, execution.block_receipt
            ),
            schema.SUMMARY + key: schema.encode_summary(execution.summary),
            schema.HASH + block.header.hash: key,
        }
        if height >= first_undo:
            before = {changed: self._source.get(changed) for changed in execution.delta}
            entries[schema.UNDO + key] = schema.encode_undo(before)
        miners = execution.next_miners
        if miners.hash != block.header.miner_set_hash:
            self._sets.add(miners.hash)
            entries[schema.MINERS + miners.hash] = encode_miners(miners)
        for index, transaction in enumerate(block.transactions):
            entries.update(index_entries(transaction, height, index))
        return entries

    def _check_state(self) -> Iterator[Finding]:
        expected = self._source.entries
        found = 0
        for key, value in self.scan(schema.STATE):
            found += 1
            if expected.get(key[1:]) != value:
                yield Finding(
                    where=f"state entry {_readable(key[1:])}",
                    what="not what the blocks give",
                )
        if found < len(expected):
            for key in expected:
                if self.store.get(schema.STATE + key) is None:
                    yield Finding(where=f"state entry {_readable(key)}", what="missing")


def _readable(key: bytes) -> str:
    """Return a state key as its table and the rest in hex."""
    table, slash, rest = key.partition(b"/")
    text = table.decode("ascii", errors="replace")
    return f"{text}/{rest.hex()}" if slash else text
