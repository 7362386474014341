"""Reading the committed chain of a node from its key-value store.

Each reader raises `DamagedEntry` where an entry is not what was written, and those of a height
`Pruned` where the chain has it and this node does not keep it. `node.storage.chain_store` writes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from chain.blocks import (
    Block,
    BlockReceipt,
    Header,
    Receipt,
    decode_block,
    decode_header,
)
from chain.certificate import CommitCertificate, decode_certificate
from chain.errors import DecodeError
from chain.kinds.evidence import KIND as EVIDENCE
from chain.kinds.evidence import Equivocation
from chain.miners import MinerSet, decode_miners, encode_miners
from chain.transactions import Transaction, decode_transaction
from chain.types import Address, Digest
from node.errors import CorruptStore, DamagedEntry, Pruned
from node.light_walk import Decided
from node.past import PastBlock, decode_decided, unpack_decided
from node.ports import KeyValueStore
from node.storage import schema
from node.storage.kv import prefix_end

T = TypeVar("T")

Place = tuple[int, int]
"""Height and index of a transaction."""

PAGE_MAX: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedTransaction:
    """A transaction that is final."""

    height: int
    transaction: Transaction
    receipt: Receipt


class ChainReader:
    """What is committed, by height, hash, id and sender.

    Parameters
    ----------
    store : KeyValueStore
        Where it is.
    path : Path
        The same, for messages.
    """

    def __init__(self, store: KeyValueStore, path: Path) -> None:
        self._store = store
        self.path = path
        # What is pruned, by class: from which height on it is kept.
        self._first: dict[bytes, int] = {}
        # The last blocks, for many ask for them just after their commit.
        self._recent: dict[int, tuple[Block, tuple[Receipt, ...], BlockReceipt]] = {}

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
        try:
            for _, data in self._store.scan(start=start, stop=stop):
                return unpack_decided(decode_decided(data))
        except CorruptStore as error:
            raise self._entry_damaged(start, error.reason) from error
        except DecodeError as error:
            raise self._entry_damaged(start, str(error)) from error
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

    def files_from(self, height: int) -> Iterator[Place]:
        """Iterate the places of transactions that name a file in chunks, from `height` on."""
        start, stop = schema.FILE + schema.height_bytes(height), prefix_end(schema.FILE)
        for key, _ in self._store.scan(start=start, stop=stop):
            yield schema.read_place(key[1:])

    def file_at(self, place: Place) -> tuple[int, Transaction] | None:
        """Return a transaction that names a file, with the time of its block; None once pruned."""
        height, index = place
        header, transaction = self.header(height), self._kept(height, index)
        return None if header is None or transaction is None else (header.time_ms, transaction)

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


def _decode_transactions(body: bytes) -> tuple[Transaction, ...]:
    return tuple([decode_transaction(wire) for wire in schema.decode_body(body)])
