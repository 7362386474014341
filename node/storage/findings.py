"""What both ways of checking a database have in common: findings, counts, strangers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from chain.blocks import HEADER, Header, decode_block, transaction_root
from chain.certificate import VOTE_TAG
from chain.crypto import verify
from chain.errors import DecodeError
from chain.kinds.evidence import KIND as EVIDENCE
from chain.kinds.evidence import Equivocation, read_head
from chain.miners import MinerSet, encode_miners
from chain.records.miners import MINER_TABLE
from node.ports import KeyValueStore
from node.storage import schema
from node.storage.kv import prefix_end

_LONGEST_KEY: Final = 256
"""More than any key has bytes."""

_META_KEYS: Final = frozenset(
    {
        schema.GENESIS_KEY,
        schema.TIP_KEY,
        *map(schema.first_key, (*schema.KEPT_APART.values(), schema.SUMMARY, schema.UNDO)),
    }
)


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


class Entries:
    """The entries of a database, compared with what belongs there."""

    def __init__(self, store: KeyValueStore) -> None:
        self.store = store
        # How many entries of the indexes belong there.
        indexes = (schema.TRANSACTION, schema.SENDER, schema.VERDICT, schema.FILE)
        self.counts = dict.fromkeys((schema.HASH, *indexes), 0)

    def check_genesis(self, header: Header, miners: MinerSet) -> Iterator[Finding]:
        """Compare the entries of block 0 with what the genesis document gives."""
        key = schema.height_bytes(0)
        self.counts[schema.HASH] += 1
        for entry, expected in {
            schema.HEADER + key: HEADER.encode(header),
            schema.BODY + key: schema.encode_body([]),
            schema.HASH + header.hash: key,
            schema.MINERS + miners.hash: encode_miners(miners),
        }.items():
            if self.store.get(entry) != expected:
                yield Finding(
                    where=f"{schema.CLASSES[entry[:1]]} of block 0",
                    what="not what the genesis document gives",
                )

    def compare(self, expected: Mapping[bytes, bytes], height: int) -> Iterator[Finding]:
        """Compare entries of a block, and count those of indexes."""
        for key, value in expected.items():
            if key[:1] in self.counts:
                self.counts[key[:1]] += 1
            if self.store.get(key) != value:
                yield Finding(
                    where=f"{schema.CLASSES[key[:1]]} of block {height}",
                    what=f"entry {key.hex()} is not what the block gives",
                )

    def check_counts(self, expected: Mapping[bytes, int]) -> Iterator[Finding]:
        """Compare how many entries each class has with how many belong there."""
        for prefix, count in (self.counts | dict(expected)).items():
            found = sum(1 for _ in self.scan(prefix))
            if found != count:
                yield Finding(
                    where=schema.CLASSES[prefix], what=f"{found} entries where {count} belong"
                )

    def check_proposed(self) -> Iterator[Finding]:
        """Check blocks that were only proposed; any may be there."""
        for key, value in self.scan(schema.PROPOSED):
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

    def check_evidence(self) -> Iterator[Finding]:
        """Check what waits to be reported; any may be there that proves something."""
        for key, value in self.scan(schema.EVIDENCE):
            try:
                fault = self._evidence_fault(key[1:], EVIDENCE.decode_bytes(value))
            except DecodeError as error:
                fault = str(error)
            if fault:
                yield Finding(where=f"evidence {key[1:].hex()}", what=fault)

    def _evidence_fault(self, miner: bytes, body: Equivocation) -> str | None:
        known = self.store.get(schema.STATE + MINER_TABLE.key(miner))
        if known is None or body.miner != miner:
            return "against another, or none that was a miner"
        key = MINER_TABLE.decode(known).key_at(read_head(body.first).height)
        for statement, signature in (
            (body.first, body.first_signature),
            (body.second, body.second_signature),
        ):
            if not verify(key, VOTE_TAG, statement, signature):
                return "a statement is not signed by the accused"
        return None

    def check_strangers(self) -> Iterator[Finding]:
        """Find entries of no known class, between and behind those that are."""
        for key, _ in self.scan(schema.META):
            if key not in _META_KEYS:
                yield Finding(where=f"entry {key.hex()}", what="nothing that a node writes")
        start = b""
        for prefix in sorted(schema.CLASSES):
            yield from self._strange(start, prefix)
            start = prefix_end(prefix)
        yield from self._strange(start, b"\xff" * _LONGEST_KEY)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Iterate the entries under a prefix."""
        return self.store.scan(start=prefix, stop=prefix_end(prefix))

    def _strange(self, start: bytes, stop: bytes) -> Iterator[Finding]:
        for key, _ in self.store.scan(start=start, stop=stop):
            yield Finding(where=f"entry {key.hex()}", what="of no class that a node writes")
