"""Pruning: what goes is gone, what stays is still proven, and the store knows which is which."""

from random import Random

import pytest

from chain.blocks import receipt_root
from chain.merkle import inclusion_proof, verify_inclusion
from chain.transactions import full_digest
from node.errors import DamagedEntry, Pruned
from node.ports import KeyValueStore, WriteBatch
from node.storage import chain_store, pruning, schema
from node.storage.rollback import lowest_height
from node.storage.verify import verify_store
from tests.simulation.disk import PowerLost, SimulatedDisk, SimulatedExecutor
from tests.unit.node.storage.stored_chain import Inline, StoredChain, dump, shrink_windows
from tests.unit.node.storage.test_verify import bits_of, findings, flipped, loaded

LATER_MS = 3_600_000
WINDOW = 2
UNDO = 3


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    shrink_windows(monkeypatch, undo=UNDO)


async def aged(kv: KeyValueStore | None = None, **fields) -> StoredChain:
    """Return a chain whose first blocks, of all classes, are beyond what rules look at."""
    stored = StoredChain(kv, **fields)
    await stored.fill(4)
    for _ in range(8):
        await stored.commit(time_ms=stored.chain.next_time_ms + LATER_MS)
    return stored


async def prune_all(stored: StoredChain, what: bytes, below: int) -> int:
    gone = 0
    while stored.store.first(what) < below:
        gone += await stored.store.prune(what, below)
    return gone


async def prune_each(stored: StoredChain, below: int) -> None:
    for what in pruning.PRUNED_CLASSES:
        await prune_all(stored, what, below)


def transactions_of(stored: StoredChain, what: bytes, below: int):
    return [
        (block.header.height, index, transaction)
        for block in stored.chain.blocks
        if block.header.height < below
        for index, transaction in enumerate(block.transactions)
        if pruning.class_of(transaction) == what
    ]


class Meanwhile(Inline):
    """An executor in whose next call something else happens before its answer is taken."""

    def __init__(self):
        self.then = None

    async def run(self, function, *args):
        found = function(*args)
        then, self.then = self.then, None
        if then is not None:
            await then()
        return found


async def test_a_block_committed_while_a_step_is_planned_is_not_forgotten_by_it():
    executor = Meanwhile()
    stored = await aged(executor=executor)
    below = stored.store.spared_from()
    executor.then = lambda: stored.commit(time_ms=stored.chain.next_time_ms + LATER_MS)
    height = stored.store.height

    await stored.store.prune(schema.TELEMETRY, below)

    assert stored.store.height == height + 1
    assert stored.store.first(schema.TELEMETRY) == below
    assert findings(stored.kv, stored.chain.genesis) == []
    assert lowest_height(stored.open()) == lowest_height(stored.store) == height + 1 - UNDO


@pytest.mark.parametrize("what", pruning.TRANSACTION_CLASSES)
async def test_what_is_pruned_is_gone_and_all_else_is_as_it_was(what):
    stored = await aged()
    below = stored.store.spared_from()
    gone = transactions_of(stored, what, below)
    kept = [
        entry
        for other in pruning.TRANSACTION_CLASSES
        for entry in transactions_of(stored, other, below)
        if other != what
    ]
    assert gone
    assert kept

    assert await prune_all(stored, what, below) == len(gone)

    store = stored.open()
    assert store.first(what) == below
    assert store.tip.header == stored.chain.tip.header
    for height, index, transaction in gone:
        assert store.transaction(transaction.id) is None
        assert store.locate(transaction.id) is None
        sender = transaction.payload.sender
        places = store.transactions_of(sender, after=None, limit=100)
        assert (height, index, transaction.id) not in places
        with pytest.raises(Pruned):
            store.block(height)
        with pytest.raises(Pruned):
            store.encoded(height)
    for height, index, transaction in kept:
        found = store.transaction(transaction.id)
        assert found is not None
        assert found.transaction.wire == transaction.wire
        assert found.receipt == stored.store.receipts(height)[index]


async def test_a_transaction_that_is_kept_still_proves_itself():
    stored = await aged()
    below = stored.store.spared_from()
    await prune_all(stored, schema.TELEMETRY, below)
    store = stored.open()
    proven = 0

    for height, index, transaction in transactions_of(stored, schema.VERDICTS, below):
        remains, header = store.remains(height), store.header(height)
        assert remains is not None
        assert header is not None
        assert None in remains.wires
        verify_inclusion(
            root=header.transaction_root,
            leaf=full_digest(transaction.wire),
            index=index,
            leaf_count=len(remains.digests),
            path=inclusion_proof(remains.digests, index),
        )
        proven += 1

    assert proven


async def test_a_pruned_block_still_has_its_ids_and_receipts():
    stored = await aged()
    below = stored.store.spared_from()
    for what in pruning.TRANSACTION_CLASSES:
        await prune_all(stored, what, below)
    store = stored.open()

    for block in stored.chain.blocks[: below - 1]:
        header = block.header
        receipts = store.receipts(header.height)
        assert [r.transaction_id for r in receipts] == [t.id for t in block.transactions]
        assert receipt_root(receipts, store.block_receipt(header.height)) == header.receipt_root
        assert store.header(header.height) == header
        assert store.certificate(header.height) is not None
        if block.transactions:
            # Digests without a transaction would prove nothing.
            assert stored.kv.get(schema.REMAINS + schema.height_bytes(header.height)) is None


async def test_receipts_go_last_and_headers_stay():
    stored = await aged()
    below = stored.store.spared_from()
    for what in pruning.PRUNED_CLASSES:
        await prune_all(stored, what, below)
    store = stored.open()

    with pytest.raises(Pruned):
        store.receipts(below - 1)
    assert store.receipts(below) is not None
    assert store.header(below - 1) == stored.chain.blocks[below - 2].header
    assert findings(stored.kv, stored.chain.genesis) == []


async def test_what_rules_may_look_at_is_spared():
    stored = await aged()
    spared = stored.store.spared_from()
    await prune_all(stored, schema.TELEMETRY, spared)

    with pytest.raises(AssertionError, match="rules still look at it"):
        await stored.store.prune(schema.TELEMETRY, spared + 1)

    base = stored.store.height - chain_store.UNDO_BLOCKS
    assert spared == min(base - WINDOW, base)


async def test_a_young_chain_is_spared_whole():
    stored = StoredChain()
    await stored.fill(4)

    assert stored.store.spared_from() <= 1


async def test_a_step_is_bounded(monkeypatch):
    stored = await aged()
    monkeypatch.setattr(pruning, "STEP_TRANSACTIONS", 1)

    await stored.store.prune(schema.TELEMETRY, stored.store.spared_from())

    assert stored.store.first(schema.TELEMETRY) == 2


async def test_a_body_that_cannot_be_read_is_named_and_nothing_is_removed():
    stored = await aged()
    stored.kv.write(WriteBatch(writes={schema.BODY + schema.height_bytes(3): b"\x00"}))
    before = dump(stored.kv)

    with pytest.raises(DamagedEntry):
        await prune_all(stored, schema.TELEMETRY, stored.store.spared_from())

    assert dump(stored.kv) == before


# --- crashes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
async def test_pruning_interrupted_at_any_write_goes_on_where_it_was(monkeypatch, seed):
    monkeypatch.setattr(pruning, "STEP_TRANSACTIONS", 1)
    stored = await aged()
    before = dump(stored.kv)
    below = stored.store.spared_from()
    await prune_each(stored, below)
    wanted = dump(stored.kv)
    writes = 4 * (below - 1)

    for crash in range(1, writes + 1):
        disk = SimulatedDisk(Random(seed))
        kv = disk.open_store()
        kv.write(WriteBatch(writes=dict(before)))
        again = StoredChain(kv, executor=SimulatedExecutor(disk), genesis=stored.chain.genesis)
        disk.lose_power_at = disk.syncs + crash
        with pytest.raises(PowerLost):
            await prune_each(again, below)
        again.kv = disk.open_store()
        again.store = again.open()
        assert findings(again.kv, stored.chain.genesis) == []
        await prune_each(again, below)
        assert dump(again.kv) == wanted


# --- verification ---------------------------------------------------------------------------------


async def damaged_base(whats=(schema.TELEMETRY,)) -> StoredChain:
    stored = await aged()
    below = stored.store.spared_from()
    for what in whats:
        await prune_all(stored, what, below)
    _, registration = stored.chain.registration("next")
    await stored.store.store_proposed(stored.chain.block(registration))
    return stored


@pytest.mark.parametrize("count", range(1, 5))
async def test_a_pruned_database_is_sound(count):
    stored = await damaged_base(pruning.PRUNED_CLASSES[:count])

    assert list(verify_store(stored.kv, stored.chain.genesis)) == []


@pytest.mark.parametrize("count", [1, 4])
async def test_a_bit_flipped_in_any_value_of_a_pruned_database_is_named(count):
    stored = await damaged_base(pruning.PRUNED_CLASSES[:count])
    entries = dump(stored.kv)

    missed = [
        (key.hex(), bit)
        for key, value in entries.items()
        for bit in bits_of(value, drawn=2)
        if not findings(loaded(entries | {key: flipped(value, bit)}), stored.chain.genesis)
    ]

    assert missed == []


@pytest.mark.parametrize("count", [1, 4])
async def test_an_entry_gone_from_a_pruned_database_is_named(count):
    stored = await damaged_base(pruning.PRUNED_CLASSES[:count])
    entries = dump(stored.kv)

    missed = [
        key.hex()
        for key in entries
        if not findings(
            loaded({other: there for other, there in entries.items() if other != key}),
            stored.chain.genesis,
        )
        and key[:1] != schema.PROPOSED
    ]

    assert missed == []
