"""A chain put together from a snapshot, beside the one in the database, until it takes its place.

Everything that comes in proves itself under one trusted header: pieces of the state by their range
proofs under its state root, blocks of the look-back by their hashes from parent to parent, with
transactions and receipts under their roots and certificates of the miners that the headers name.
So the staging area trusts nobody, and what it has verified is on the disk and need not come again.

The chain that is complete is adopted when the database is opened next. docs/spec/durability.md,
section "Starting from a snapshot", is normative.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from chain.blocks import (
    HEADER,
    Header,
    decode_block,
    decode_header,
    receipt_root,
    transaction_root,
)
from chain.certificate import CERTIFICATE, decode_certificate
from chain.errors import InvalidProof
from chain.genesis import Genesis, genesis_miners
from chain.light_client import verify_header
from chain.lookback import Reach
from chain.miners import MinerSet, decode_miners, encode_miners
from chain.state import State, miner_sets_of, parameters_of
from chain.state_range import StatePiece, next_path
from chain.transition import summarise
from chain.types import DIGEST_SIZE, Digest
from node.light_walk import Decided
from node.past import DECIDED, PastBlock, decode_decided, pack_decided, unpack_decided
from node.ports import KeyValueStore, WriteBatch
from node.storage import schema
from node.storage.adoption import CURSOR, LOWEST_KEY, SEGMENTS, TARGET_KEY
from node.storage.chain_store import block_entries
from node.storage.kv import prefix_end, write_in_steps
from node.storage.state_source import StateSource

_DONE: Final = b""
_SHIFT: Final = 8 * DIGEST_SIZE - (SEGMENTS.bit_length() - 1)
"""Bits of a path below those that tell its segment."""


class Staging:
    """The staging area of a database.

    All methods but the properties read and write the disk; they take turns.

    Parameters
    ----------
    store : KeyValueStore
        The database of a node of this chain.

    Attributes
    ----------
    target : Decided or None
        The trusted block that the staged chain will end with; None where nothing is staged.
    """

    def __init__(self, store: KeyValueStore, genesis: Genesis) -> None:
        self._disk = store
        self._genesis = genesis
        self._staged = _Staged(store)
        self.target: Decided | None = None
        self._cursors: list[bytes] = []
        self._state: State | None = None
        self._sets: dict[Digest, MinerSet] = {}
        self._lowest: Header | None = None
        packed = self._staged.get(TARGET_KEY)
        if packed is None:
            self._staged.clear()
        else:
            self._resume(unpack_decided(decode_decided(packed)))

    def begin(self, target: Decided, steps: Sequence[Decided] = ()) -> None:
        """Throw away what is staged and begin with a chain that ends with `target`.

        Parameters
        ----------
        target : Decided
            A block that the caller trusts, with its certificate verified.
        steps : sequence of Decided
            What led from the first trusted block to it; others will ask for the same.
        """
        self.clear()
        batch = WriteBatch()
        for step in steps:
            key = schema.INCOMING + schema.WAYPOINT + schema.height_bytes(step.header.height)
            batch.put(key, DECIDED.encode(pack_decided(step)))
        batch.put(schema.INCOMING + TARGET_KEY, DECIDED.encode(pack_decided(target)))
        self._disk.write(batch)
        self._resume(target)

    def clear(self) -> None:
        """Throw away what is staged."""
        self.target = None
        self._staged.clear()

    # The state

    def wanted(self, segment: int) -> Digest | None:
        """Return the path from which on a part of the state is missing, or None."""
        cursor = self._cursors[segment]
        return Digest(cursor) if cursor != _DONE else None

    @property
    def has_state(self) -> bool:
        """Whether the whole state is here."""
        return all(cursor == _DONE for cursor in self._cursors)

    def add_piece(self, piece: StatePiece) -> None:
        """Take in a piece of the state.

        Raises
        ------
        InvalidProof
            It is none of this state.
        """
        assert self.target is not None, "something is being put together"
        piece.verify(self.target.header.state_root)
        cursors = list(self._cursors)
        for segment, cursor in enumerate(cursors):
            if piece.first <= cursor <= piece.last and cursor != _DONE:
                is_last = piece.last >= _end_of(segment)
                cursors[segment] = _DONE if is_last else next_path(piece.last)
        if cursors == self._cursors:
            return
        batch = WriteBatch()
        for entry in piece.entries:
            batch.put(schema.INCOMING + schema.STATE + entry.key, entry.value)
        for segment, cursor in enumerate(cursors):
            batch.put(schema.INCOMING + CURSOR + bytes([segment]), cursor)
        self._disk.write(batch)
        self._cursors = cursors

    # The look-back

    @property
    def next_block(self) -> int:
        """The height of the block that is wanted next: they come in descending order."""
        assert self.target is not None, "something is being put together"
        return self.target.header.height if self._lowest is None else self._lowest.height - 1

    @property
    def has_lookback(self) -> bool:
        """Whether all blocks are here that rules look back at; asked once the state is."""
        if self._lowest is None:
            return False
        # The first block beyond the reach comes too: that it is beyond, its own time shows.
        return self._lowest.height <= 1 or not self._reach().contains(self._lowest)

    def add_blocks(self, blocks: Sequence[PastBlock]) -> None:
        """Take in blocks, from `next_block` on in descending order, until the look-back is whole.

        Raises
        ------
        DecodeError, InvalidProof, InvalidCertificate
            One is not the block of its height, or lacks what proves it; those before it were taken.
        """
        batch = WriteBatch()
        try:
            for past in blocks:
                if self.has_lookback:
                    break
                for key, value in self._checked(past).items():
                    batch.put(schema.INCOMING + key, value)
        finally:
            if batch.writes:
                self._disk.write(batch)

    def _checked(self, past: PastBlock) -> dict[bytes, bytes]:
        """Return the entries of the next block once it is proven."""
        assert self.target is not None, "something is being put together"
        block = decode_block(past.block)
        header = block.header
        wanted = self.target.header.hash if self._lowest is None else self._lowest.parent_hash
        if header.hash != wanted:
            raise InvalidProof(f"not the block of height {self.next_block}")
        digests = [transaction.digest for transaction in block.transactions]
        if transaction_root(digests) != header.transaction_root:
            raise InvalidProof("these are not the transactions of the block")
        if receipt_root(*schema.split_receipts(past.receipts)) != header.receipt_root:
            raise InvalidProof("these are not the receipts of the block")
        miners = self._miners_of(header.miner_set_hash, past.miners)
        certificate = decode_certificate(past.certificate)
        verify_header(header, certificate, miners)
        key = schema.height_bytes(header.height)
        if header.height > 1 and not self._reach().contains(header):
            # What the chain begins with here; nobody looks into it.
            entries = {
                schema.HEADER + key: HEADER.encode(header),
                schema.CERTIFICATE + key: CERTIFICATE.encode(certificate),
            }
        else:
            summary = summarise(block, self._whole_state())
            entries = block_entries(block, certificate, receipts=past.receipts, summary=summary)
        entries[schema.MINERS + miners.hash] = encode_miners(miners)
        entries[LOWEST_KEY] = key
        self._lowest = header
        return entries

    def _reach(self) -> Reach:
        assert self.target is not None, "something is being put together"
        return Reach.of(self.target.header, parameters_of(self._whole_state()))

    def _miners_of(self, set_hash: Digest, told: bytes) -> MinerSet:
        known = self._sets.get(set_hash)
        if known is None:
            if not told:
                raise InvalidProof("the miners that decided the block are missing")
            known = decode_miners(told)
            if known.hash != set_hash:
                raise InvalidProof("other miners decided the block")
            self._sets[set_hash] = known
        return known

    # The end

    def finish(self) -> None:
        """Mark the staged chain as the one to open next; it has its state and its look-back."""
        assert self.target is not None, "something is being put together"
        assert self.has_lookback, "nothing is missing"
        state = self._whole_state()
        batch = WriteBatch()
        for miners in (genesis_miners(self._genesis), self.target.miners, miner_sets_of(state)[0]):
            batch.put(schema.INCOMING + schema.MINERS + miners.hash, encode_miners(miners))
        height = schema.height_bytes(self.target.header.height)
        assert self._lowest is not None, "the look-back has a block"
        if self._lowest.height > 1:
            for what in (*schema.KEPT_APART.values(), schema.SUMMARY):
                is_of_header = what in (schema.HEADER, schema.CERTIFICATE)
                first = self._lowest.height + (0 if is_of_header else 1)
                batch.put(schema.INCOMING + schema.first_key(what), schema.height_bytes(first))
        # None of its blocks can be taken back.
        undo_from = schema.height_bytes(self.target.header.height + 1)
        batch.put(schema.INCOMING + schema.first_key(schema.UNDO), undo_from)
        batch.put(schema.ADOPT_KEY, height)
        self._disk.write(batch)

    def _whole_state(self) -> State:
        assert self.has_state, "the state is here"
        if self._state is None:
            self._state = State(StateSource(self._staged))
            assert self.target is not None, "something is being put together"
            assert self._state.root == self.target.header.state_root, "every piece was proven"
        return self._state

    def _resume(self, target: Decided) -> None:
        self.target = target
        self._state = None
        self._sets = {
            miners.hash: miners for miners in (target.miners, genesis_miners(self._genesis))
        }
        self._cursors = []
        for segment in range(SEGMENTS):
            cursor = self._staged.get(CURSOR + bytes([segment]))
            self._cursors.append(_start_of(segment) if cursor is None else cursor)
        self._lowest = None
        lowest = self._staged.get(LOWEST_KEY)
        if lowest is not None:
            header = self._staged.get(schema.HEADER + lowest)
            assert header is not None, "it was staged with the height"
            self._lowest = decode_header(header)


class _Staged:
    """The staged entries, under the keys that they will have; reads only, but for `clear`."""

    def __init__(self, store: KeyValueStore) -> None:
        self._store = store

    def get(self, key: bytes) -> bytes | None:
        return self._store.get(schema.INCOMING + key)

    def scan(
        self, *, start: bytes, stop: bytes, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        entries = self._store.scan(
            start=schema.INCOMING + start, stop=schema.INCOMING + stop, reverse=reverse
        )
        return ((key[1:], value) for key, value in entries)

    def write(self, batch: WriteBatch, *, sync: bool = True) -> None:
        raise NotImplementedError("staged entries are written with what goes with them")

    def compact(self, *, start: bytes, stop: bytes) -> None:
        self._store.compact(start=schema.INCOMING + start, stop=schema.INCOMING + stop)

    def close(self) -> None:
        """Do nothing: the database closes."""

    def clear(self) -> None:
        # Without a target the rest means nothing, wherever this ends.
        target = schema.INCOMING + TARGET_KEY
        writes = [target, *(schema.INCOMING + key for key in self._keys())]
        if len(writes) > 1:
            write_in_steps(self._store, ((key, None) for key in writes))

    def _keys(self) -> Iterator[bytes]:
        start, stop = schema.INCOMING, prefix_end(schema.INCOMING)
        return (key[1:] for key, _ in self._store.scan(start=start, stop=stop))


def _start_of(segment: int) -> bytes:
    return (segment << _SHIFT).to_bytes(DIGEST_SIZE, "big")


def _end_of(segment: int) -> bytes:
    return ((segment + 1 << _SHIFT) - 1).to_bytes(DIGEST_SIZE, "big")
