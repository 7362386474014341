"""Checking a whole database: every block again from genesis, and every entry beside it.

The chain is executed anew in memory and compared with what is stored, so that a bit flipped in a
block, an index or a state entry is named. Signatures of transactions are not verified again: the
root over them is under the certificate of the miners.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from chain.blocks import HEADER, Block, decode_block, decode_header, transaction_root
from chain.certificate import decode_certificate
from chain.errors import DecodeError, InvalidBlock, InvalidCertificate
from chain.genesis import GENESIS, Genesis, genesis_header, genesis_miners, genesis_state
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
from node.storage.kv import prefix_end
from node.storage.verify_snapshots import check_snapshots

_LONGEST_KEY: Final = 256
"""More than any key has bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it was written.

    Parameters
    ----------
    where : str
        The entry: its class, and its height or key.
    what : str
        What is wrong with it.
    """

    where: str
    what: str


def verify_store(
    store: KeyValueStore,
    genesis: Genesis,
    progress: Callable[[int, int], None] = lambda height, tip: None,
) -> Iterator[Finding]:
    """Yield what is wrong with the database of a node of this chain; nothing for a sound one.

    Parameters
    ----------
    progress : callable, optional
        Told ``(height, height of the tip)`` after each block.
    """
    try:
        yield from _Check(store, genesis, progress).run()
        for where, what in check_snapshots(store):
            yield Finding(where=where, what=what)
    except CorruptStore as error:
        # LevelDB's own checksums: nothing behind this point can be read.
        yield Finding(where="database files", what=str(error))


class _Check:
    def __init__(
        self, store: KeyValueStore, genesis: Genesis, progress: Callable[[int, int], None]
    ) -> None:
        self._store = store
        self._genesis = genesis
        self._progress = progress
        self._source = MemorySource(genesis_state(genesis))
        state = State(self._source)
        header = genesis_header(genesis, state.root)
        self._tip = Tip(header=header, state=state, recent=Lookback())
        # How many entries of each class belong there; proposed blocks may be any.
        self._expected = {
            schema.HASH: 1,
            schema.TRANSACTION: 0,
            schema.SENDER: 0,
            schema.VERDICT: 0,
        }
        self._sets: set[Digest] = set()

    def run(self) -> Iterator[Finding]:
        if self._store.get(schema.GENESIS_KEY) != GENESIS.encode(self._genesis):
            yield Finding(where="meta genesis", what="not the genesis document of this chain")
            return
        stored = self._store.get(schema.TIP_KEY)
        if stored is None or len(stored) != schema.HEIGHT_SIZE:
            yield Finding(where="meta tip", what="missing or malformed")
            return
        tip = int.from_bytes(stored, "big")
        yield from self._check_genesis()
        for height in range(1, tip + 1):
            findings = list(self._check_block(height))
            yield from findings
            if self._tip.header.height < height:
                yield Finding(
                    where=f"block {height}", what=f"what follows, up to {tip}, was not checked"
                )
                return
            self._progress(height, tip)
        yield from self._check_state()
        yield from self._check_counts(tip)
        yield from self._check_proposed()
        yield from self._check_strangers()

    def _check_genesis(self) -> Iterator[Finding]:
        """Compare the entries of block 0 with what the genesis document gives."""
        header, miners = self._tip.header, genesis_miners(self._genesis)
        self._sets.add(miners.hash)
        key = schema.height_bytes(0)
        for entry, expected in {
            schema.HEADER + key: HEADER.encode(header),
            schema.BODY + key: schema.encode_body([]),
            schema.HASH + header.hash: key,
            schema.MINERS + miners.hash: encode_miners(miners),
        }.items():
            if self._store.get(entry) != expected:
                yield Finding(
                    where=f"{schema.CLASSES[entry[:1]]} of block 0",
                    what="not what the genesis document gives",
                )

    def _check_block(self, height: int) -> Iterator[Finding]:
        key = schema.height_bytes(height)
        where = f"header {height}"
        try:
            parts = [self._store.get(prefix + key) for prefix in (schema.HEADER, schema.BODY)]
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
        yield from self._check_entries(block, execution)
        self._source.apply(execution.delta)
        self._tip = advance(self._tip, execution)

    def _check_certificate(self, block: Block) -> Iterator[Finding]:
        height = block.header.height
        data = self._store.get(schema.CERTIFICATE + schema.height_bytes(height))
        if data is None:
            yield Finding(where=f"certificate {height}", what="missing")
            return
        miners, _ = miner_sets_of(self._tip.state)
        try:
            verify_header(block.header, decode_certificate(data), miners)
        except (DecodeError, InvalidCertificate) as error:
            yield Finding(where=f"certificate {height}", what=str(error))

    def _check_entries(self, block: Block, execution: Execution) -> Iterator[Finding]:
        height = block.header.height
        entries = {
            schema.RECEIPTS + schema.height_bytes(height): schema.encode_receipts(
                execution.receipts, execution.block_receipt
            ),
            schema.SUMMARY + schema.height_bytes(height): schema.encode_summary(execution.summary),
            schema.HASH + block.header.hash: schema.height_bytes(height),
        }
        miners = execution.next_miners
        if miners.hash != block.header.miner_set_hash:
            self._sets.add(miners.hash)
            entries[schema.MINERS + miners.hash] = encode_miners(miners)
        for index, transaction in enumerate(block.transactions):
            place = schema.place_bytes(height, index)
            sender = transaction.payload.sender
            entries[schema.transaction_key(transaction.id)] = place
            entries[schema.sender_key(sender, place)] = transaction.id
            if transaction.payload.kind == "verdict":
                entries[schema.VERDICT + place] = transaction.id
        for key, expected in entries.items():
            if key[:1] in self._expected:
                self._expected[key[:1]] += 1
            if self._store.get(key) != expected:
                name = schema.CLASSES[key[:1]]
                yield Finding(
                    where=f"{name} of block {height}",
                    what=f"entry {key.hex()} is not what the block gives",
                )

    def _check_state(self) -> Iterator[Finding]:
        expected = self._source.entries
        found = 0
        for key, value in self._scan(schema.STATE):
            found += 1
            if expected.get(key[1:]) != value:
                yield Finding(
                    where=f"state entry {_readable(key[1:])}",
                    what="not what the blocks give",
                )
        if found < len(expected):
            for key in expected:
                if self._store.get(schema.STATE + key) is None:
                    yield Finding(where=f"state entry {_readable(key)}", what="missing")

    def _check_counts(self, tip: int) -> Iterator[Finding]:
        expected = self._expected | dict.fromkeys(schema.BY_HEIGHT, tip)
        expected[schema.HEADER] = expected[schema.BODY] = tip + 1
        expected[schema.META] = 2 + sum(1 for _ in self._scan(schema.FIRST))
        expected[schema.MINERS] = len(self._sets)
        for prefix, count in expected.items():
            found = sum(1 for _ in self._scan(prefix))
            if found != count:
                yield Finding(
                    where=schema.CLASSES[prefix], what=f"{found} entries where {count} belong"
                )

    def _check_proposed(self) -> Iterator[Finding]:
        for key, value in self._scan(schema.PROPOSED):
            where = f"proposed block {key[1:].hex()}"
            try:
                block = decode_block(value)
            except DecodeError as error:
                yield Finding(where=where, what=str(error))
                continue
            digests = [transaction.digest for transaction in block.transactions]
            if block.header.hash != key[1:]:
                yield Finding(where=where, what="another block stands there")
            elif transaction_root(digests) != block.header.transaction_root:
                yield Finding(where=where, what="these are not its transactions")

    def _check_strangers(self) -> Iterator[Finding]:
        """Find entries of no known class, between and behind those that are."""
        start = b""
        for prefix in sorted(schema.CLASSES):
            yield from self._strange(start, prefix)
            start = prefix_end(prefix)
        yield from self._strange(start, b"\xff" * _LONGEST_KEY)

    def _strange(self, start: bytes, stop: bytes) -> Iterator[Finding]:
        for key, _ in self._store.scan(start=start, stop=stop):
            yield Finding(where=f"entry {key.hex()}", what="of no class that a node writes")

    def _scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._store.scan(start=prefix, stop=prefix_end(prefix))


def _readable(key: bytes) -> str:
    """Return a state key as its table and the rest in hex."""
    table, slash, rest = key.partition(b"/")
    text = table.decode("ascii", errors="replace")
    return f"{text}/{rest.hex()}" if slash else text
