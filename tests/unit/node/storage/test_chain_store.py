"""The committed chain on disk: opened again, it is what it was; half written, it is what it was."""

import asyncio
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain import lookback, transition
from chain.admission import check_timely
from chain.errors import Rejection
from chain.kinds.parameter_change import ParameterChange
from chain.limits import RateWindow
from chain.parameters import FUTURE_DRIFT_MS, VERDICT_WINDOW
from chain.records.devices import DEVICE_TABLE
from chain.state import parameters_of
from chain.transactions import sign_transaction
from node.errors import ConfigError, CorruptStore, DamagedEntry, DiskFull, StorageClosed
from node.ports import WriteBatch
from node.storage import chain_reader, schema
from node.storage.chain_reader import PAGE_MAX
from node.storage.kv import MemoryStore
from node.storage.leveldb import LevelDbStore
from node.storage.state_source import StateSource
from node.storage.verify import verify_store
from tests.builders import flow, make_genesis, make_model, with_parameters
from tests.simulation.disk import SimulatedDisk, SimulatedExecutor
from tests.unit.node.storage.stored_chain import Inline, StoredChain, Worn, dump

# --- opening again --------------------------------------------------------------------------------


@pytest.mark.attack("A13")
async def test_a_chain_opened_again_is_what_it_was():
    stored = StoredChain()
    await stored.fill()
    before, after = stored.store, stored.open()

    assert after.tip.header == before.tip.header
    assert after.state.root == before.state.root == before.tip.header.state_root
    assert list(after.state.scan(DEVICE_TABLE)) == list(before.state.scan(DEVICE_TABLE))
    for height in range(before.height + 1):
        block = before.block(height)
        assert block is not None
        reread = after.block(height)
        assert reread is not None
        assert reread.header == block.header
        assert after.header(height) == block.header
        assert after.height_of(block.header.hash) == height
        assert after.receipts(height) == before.receipts(height)
        assert after.block_receipt(height) == before.block_receipt(height)
        assert after.certificate(height) == before.certificate(height)
        assert after.encoded(height) == before.encoded(height)
        for index, transaction in enumerate(block.transactions):
            assert after.locate(transaction.id) == (height, index)


async def test_every_set_of_miners_that_has_decided_is_kept():
    stored = StoredChain()
    sets = [stored.chain.miners]
    proposal = stored.chain.by_miner(0, "miner.propose", stored.chain.addition())
    await stored.commit(proposal, stored.chain.vote(1, proposal), stored.chain.vote(2, proposal))
    for _ in range(2):
        await stored.commit()
        sets.append(stored.chain.miners)

    store = stored.open()

    assert len({miners.hash for miners in sets}) == 2
    assert [store.miners(miners.hash) for miners in sets] == sets
    assert store.miners(stored.chain.genesis.hash) is None
    assert list(verify_store(stored.kv, stored.chain.genesis)) == []


async def test_a_block_beyond_the_tip_is_nowhere():
    stored = StoredChain()
    await stored.fill(1)
    beyond = stored.store.height + 1

    assert stored.store.header(beyond) is None
    assert stored.store.block(beyond) is None
    assert stored.store.wires(beyond) is None
    assert stored.store.encoded(beyond) is None
    assert stored.store.certificate(beyond) is None
    assert stored.store.receipts(beyond) == ()
    assert stored.store.block_receipt(beyond).events == ()


async def test_a_transaction_is_told_once_its_block_is_the_tip():
    looks = []

    class Looking(Inline):
        async def run(self, function, *args):
            result = await super().run(function, *args)
            looks.append((stored.store.height, stored.store.transaction(registration.id)))
            return result

    stored = StoredChain(executor=Looking())
    _, registration = stored.chain.registration("device")
    await stored.commit(registration)

    assert looks == [(0, None)]
    found = stored.store.transaction(registration.id)
    assert found is not None
    assert found.height == stored.store.height == 1


async def test_genesis_has_no_certificate_and_is_not_handed_to_peers():
    stored = StoredChain()

    assert stored.store.certificate(0) is None
    assert stored.store.encoded(0) is None
    assert stored.store.wires(0) == ()


def test_a_store_of_another_chain_is_refused():
    kv = MemoryStore()
    StoredChain(kv)

    with pytest.raises(ConfigError, match="another chain"):
        StoredChain(kv, genesis=make_genesis(miners=7))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (schema.GENESIS_KEY, None),
        (schema.TIP_KEY, None),
        (schema.TIP_KEY, b"\x00"),
        (schema.TIP_KEY, schema.height_bytes(99)),
        (schema.HEADER + schema.height_bytes(5), None),
        (schema.HEADER + schema.height_bytes(5), b"\x90"),
        (schema.HEADER + schema.height_bytes(4), None),
        (schema.SUMMARY + schema.height_bytes(4), b"\x90"),
        (schema.STATE + b"devices/", b"new"),
    ],
)
async def test_a_store_with_damage_where_a_node_looks_first_does_not_open(key, value):
    stored = StoredChain()
    await stored.fill()
    batch = WriteBatch()
    batch.writes[key] = value
    stored.kv.write(batch)
    damaged = dump(stored.kv)

    with pytest.raises(CorruptStore):
        stored.open()

    assert dump(stored.kv) == damaged


@pytest.mark.parametrize(
    "prefix", [schema.HEADER, schema.BODY, schema.CERTIFICATE, schema.RECEIPTS]
)
async def test_what_cannot_be_read_is_damage_of_the_store_and_no_fault_of_who_asked(prefix):
    stored = StoredChain()
    await stored.fill()
    store = stored.open()
    block = stored.chain.blocks[1]
    batch = WriteBatch()
    batch.put(prefix + schema.height_bytes(2), b"\x91\xc4\x01\x00")
    batch.put(schema.PROPOSED + block.header.hash, b"\x00")
    stored.kv.write(batch)

    with pytest.raises(DamagedEntry) as raised:
        (store.block(2), store.certificate(2), store.receipts(2), store.block_receipt(2))
    assert raised.value.entry == f"{schema.CLASSES[prefix]} of block 2"
    assert raised.value.key == prefix + schema.height_bytes(2)
    with pytest.raises(CorruptStore):
        store.proposed(block.header.hash)
    if prefix in (schema.BODY, schema.RECEIPTS):
        with pytest.raises(CorruptStore):
            store.transaction(block.transactions[0].id)


async def test_what_the_medium_cannot_read_is_named_by_its_entry():
    worn = Worn()
    stored = StoredChain(worn)
    await stored.fill(6)
    store = stored.open()
    transaction = stored.chain.blocks[1].transactions[0]
    reads = {
        schema.HEADER + schema.height_bytes(2): lambda: store.encoded(2),
        schema.BODY + schema.height_bytes(2): lambda: store.wires(2),
        schema.RECEIPTS + schema.height_bytes(2): lambda: store.transaction(transaction.id),
        schema.HASH + stored.chain.blocks[1].header.hash: lambda: store.height_of(
            stored.chain.blocks[1].header.hash
        ),
        schema.transaction_key(transaction.id): lambda: store.locate(transaction.id),
    }

    for key, read in reads.items():
        worn.bad = {key}
        with pytest.raises(DamagedEntry, match="a checksum is wrong") as raised:
            read()
        assert raised.value.key == key
        assert raised.value.entry.startswith(schema.CLASSES[key[:1]])


async def test_a_bit_flipped_in_the_files_of_an_old_block_is_named_by_its_height(tmp_path):
    kv = LevelDbStore(tmp_path / "chain")
    stored = StoredChain(kv)
    await stored.fill(6)
    kv.compact()
    kv.close()
    signature = stored.chain.blocks[2].transactions[0].signature
    flipped = bytes((signature[0] ^ 1,)) + signature[1:]
    [table] = [f for f in (tmp_path / "chain").glob("*.ldb") if signature in f.read_bytes()]
    table.write_bytes(table.read_bytes().replace(signature, flipped))
    stored.kv = LevelDbStore(tmp_path / "chain")
    store = stored.open()

    with pytest.raises(DamagedEntry, match="body of block 3"):
        store.block(3)

    assert store.header(3) == stored.chain.blocks[2].header
    stored.kv.close()


# --- writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
async def test_a_failed_write_leaves_the_tip_and_the_next_start_finds_all_or_nothing(seed):
    disk = SimulatedDisk(Random(seed))
    stored = StoredChain(disk.open_store(), executor=SimulatedExecutor(disk))
    await stored.fill(2)
    store, tip, root = stored.store, stored.store.tip, stored.store.state.root
    disk.full = True

    with pytest.raises(DiskFull):
        await stored.commit(time_ms=tip.header.time_ms + 60_000)

    assert store.tip is tip
    assert store.state.root == root
    assert store.block(store.height) == stored.chain.blocks[-2]
    disk.full = False
    with pytest.raises(StorageClosed):
        await stored.catch_up()
    assert store.tip is tip

    disk.kill()
    stored.kv = disk.open_store()
    stored.store = stored.open()
    assert stored.store.height in (tip.header.height, tip.header.height + 1)
    await stored.catch_up()
    assert stored.store.tip.header == stored.chain.tip.header
    assert stored.open().state.root == stored.chain.state.root


class Gate:
    """An executor whose functions have run when it is passed, and return when it opens."""

    def __init__(self):
        self.open = asyncio.Event()
        self.open.set()
        self.passed = asyncio.Event()

    async def run(self, function, *args):
        result = function(*args)
        self.passed.set()
        await self.open.wait()
        return result


async def test_readers_see_the_tip_while_the_next_block_is_being_written():
    gate = Gate()
    stored = StoredChain(executor=gate)
    await stored.fill(2)
    store = stored.store
    device, registration = stored.chain.registration("late")
    devices, root = list(store.state.scan(DEVICE_TABLE)), store.state.root
    gate.open.clear()
    gate.passed.clear()

    async with asyncio.TaskGroup() as group:
        commit = group.create_task(stored.commit(registration))
        await gate.passed.wait()
        assert schema.STATE + DEVICE_TABLE.key(device.id) in dump(stored.kv)
        assert store.state.get(DEVICE_TABLE, device.id) is None
        assert list(store.state.scan(DEVICE_TABLE)) == devices
        assert store.state.root == root
        gate.open.set()
        await commit

    assert store.state.get(DEVICE_TABLE, device.id) is not None
    assert dict(store.state.scan(DEVICE_TABLE)).keys() > dict(devices).keys()
    assert store.state.root == stored.chain.state.root


async def test_a_commit_cancelled_while_it_is_written_is_there_at_the_next_start():
    gate = Gate()
    stored = StoredChain(executor=gate)
    await stored.fill(1)
    gate.open.clear()
    gate.passed.clear()

    async with asyncio.TaskGroup() as group:
        commit = group.create_task(stored.commit(time_ms=stored.chain.next_time_ms + 60_000))
        await gate.passed.wait()
        commit.cancel()

    assert stored.store.height == stored.chain.tip.header.height - 1
    assert stored.open().height == stored.chain.tip.header.height


KEYS = st.binary(min_size=1, max_size=2).map(lambda key: b"t/" + key)
ENTRIES = st.dictionaries(KEYS, st.binary(min_size=1, max_size=1), max_size=8)


@given(
    before=ENTRIES,
    changes=st.dictionaries(KEYS, st.none() | st.binary(min_size=1, max_size=1), max_size=8),
    after=st.none() | KEYS,
)
def test_a_source_that_holds_shows_what_was_there_to_get_and_scan(before, changes, after):
    kv = MemoryStore()
    kv.write(WriteBatch(writes={schema.STATE + key: value for key, value in before.items()}))
    source = StateSource(kv)

    source.hold(iter(changes))
    kv.write(WriteBatch(writes={schema.STATE + key: value for key, value in changes.items()}))

    expected = sorted(item for item in before.items() if after is None or item[0] > after)
    assert list(source.scan(b"t/", after or b"")) == expected
    assert {key: source.get(key) for key in before} == before
    source.release()
    now = {key: value for key, value in (before | changes).items() if value is not None}
    assert dict(source.scan(b"t/")) == now


async def test_a_commit_drops_the_proposed_blocks_of_its_height():
    stored = StoredChain()
    await stored.fill(1)
    block = stored.chain.block(time_ms=stored.chain.next_time_ms + 60_000)
    other = stored.chain.block(time_ms=stored.chain.next_time_ms + 61_000)
    for proposed in (block, other):
        await stored.store.store_proposed(proposed)
        found = stored.open().proposed(proposed.header.hash)
        assert found is not None
        assert found.header == proposed.header

    await stored.commit(time_ms=stored.chain.next_time_ms + 60_000)

    assert stored.store.height_of(block.header.hash) == stored.store.height
    assert [stored.store.proposed(b.header.hash) for b in (block, other)] == [None, None]


def proposed_on_disk(stored):
    return [key for key in dump(stored.kv) if key.startswith(schema.PROPOSED)]


def proposal_of(stored):
    return stored.chain.block(time_ms=stored.chain.next_time_ms + 60_000)


async def test_a_proposed_block_of_before_a_restart_goes_with_the_next_commit():
    stored = StoredChain()
    await stored.fill(1)
    block = proposal_of(stored)
    await stored.store.store_proposed(block)

    stored.store = stored.open()
    assert proposed_on_disk(stored) == [schema.PROPOSED + block.header.hash]
    await stored.commit(time_ms=stored.chain.next_time_ms + 61_000)

    assert proposed_on_disk(stored) == []
    assert stored.store.proposed(block.header.hash) is None


async def test_a_proposed_block_whose_keeper_is_cancelled_goes_with_the_next_commit():
    gate = Gate()
    stored = StoredChain(executor=gate)
    await stored.fill(1)
    block = proposal_of(stored)
    gate.open.clear()
    gate.passed.clear()

    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(stored.store.store_proposed(block))
        await gate.passed.wait()
        keeping.cancel()
    gate.open.set()
    assert proposed_on_disk(stored) == [schema.PROPOSED + block.header.hash]
    await stored.commit(time_ms=stored.chain.next_time_ms + 61_000)

    assert proposed_on_disk(stored) == []


async def test_a_block_that_is_proposed_while_another_is_committed_stays():
    gate = Gate()
    stored = StoredChain(executor=gate)
    await stored.fill(1)
    block = proposal_of(stored)
    gate.open.clear()
    gate.passed.clear()

    async with asyncio.TaskGroup() as group:
        group.create_task(stored.commit(time_ms=stored.chain.next_time_ms + 61_000))
        await gate.passed.wait()
        committing, gate.open = gate.open, asyncio.Event()
        gate.open.set()
        await stored.store.store_proposed(block)
        committing.set()

    assert proposed_on_disk(stored) == [schema.PROPOSED + block.header.hash]
    await stored.commit(time_ms=stored.chain.next_time_ms + 62_000)
    assert proposed_on_disk(stored) == []


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("is_commit", [False, True])
async def test_a_write_that_fails_leaves_no_proposed_block_for_ever(is_commit, seed):
    disk = SimulatedDisk(Random(seed))
    stored = StoredChain(disk.open_store(), executor=SimulatedExecutor(disk))
    await stored.fill(1)
    block = proposal_of(stored)
    if is_commit:
        await stored.store.store_proposed(block)
    disk.full = True
    failing = (
        stored.commit(time_ms=stored.chain.next_time_ms + 61_000)
        if is_commit
        else stored.store.store_proposed(block)
    )
    with pytest.raises(DiskFull):
        await failing
    disk.full = False

    # Whether the failed write is there, chance says.
    disk.kill()
    stored.kv = disk.open_store()
    stored.store = stored.open()
    await stored.catch_up()
    await stored.commit(time_ms=stored.chain.next_time_ms + 62_000)

    assert proposed_on_disk(stored) == []


@pytest.mark.attack("A11")
async def test_a_block_out_of_turn_or_without_its_certificate_is_a_fault_of_the_node():
    stored = StoredChain()
    await stored.fill(1)
    block = stored.chain.blocks[-1]
    execution = await stored.commit(time_ms=stored.chain.next_time_ms + 60_000)

    with pytest.raises(AssertionError, match="in order"):
        await stored.store.commit(execution, stored.chain.blocks[-1], stored.certificates[-1])
    next_block = stored.chain.block(time_ms=stored.chain.next_time_ms + 60_000)
    with pytest.raises(AssertionError, match="proves this block"):
        await stored.store.commit(stored.execute(next_block), next_block, stored.certificates[-1])
    assert block.header.height == stored.store.height - 1


# --- asking ---------------------------------------------------------------------------------------


async def test_a_committed_transaction_is_found_with_its_receipt_in_memory_and_on_disk():
    stored = StoredChain()
    await stored.fill(6)

    for store in (stored.store, stored.open()):
        for block in stored.chain.blocks:
            height = block.header.height
            for index, transaction in enumerate(block.transactions):
                found = store.transaction(transaction.id)
                assert found is not None
                assert found.height == height
                assert found.transaction.wire == transaction.wire
                assert found.receipt == store.receipts(height)[index]
    assert stored.store.transaction(stored.chain.genesis.hash) is None


async def test_what_the_end_of_a_block_brought_about_is_found_in_memory_and_on_disk():
    stored = StoredChain()
    await stored.fill(1)
    written = stored.chain.blocks[0].header.height

    for store in (stored.store, stored.open()):
        assert [event.name for event in store.block_receipt(written).events] == [
            "miner_passed_over"
        ]
        assert store.block_receipt(written + 1).events == ()
        assert store.block_receipt(0).events == ()


async def test_pages_follow_each_other_without_gap_or_repetition():
    stored = StoredChain()
    await stored.fill(7)
    blocks = stored.chain.blocks
    senders = {tx.payload.sender for block in blocks for tx in block.transactions}
    every = [
        (block.header.height, index, tx.id, tx.payload)
        for block in blocks
        for index, tx in enumerate(block.transactions)
    ]

    for limit in (1, 2, 3, 100):
        for sender in senders:
            expected = [entry[:3] for entry in every if entry[3].sender == sender]
            assert pages(limit, stored.store.transactions_of, sender) == expected
        verdicts = [entry[:3] for entry in every if entry[3].kind == "verdict"]
        assert len(verdicts) == 18
        assert pages(limit, stored.store.verdict_transactions) == verdicts
    assert len(stored.store.verdict_transactions(after=None, limit=10 * PAGE_MAX)) == 18


def pages(limit, read, *arguments):
    found, after = [], None
    while page := read(*arguments, after=after, limit=limit):
        assert len(page) <= limit
        found += page
        after = page[-1][:2]
    assert all(one[:2] < other[:2] for one, other in pairwise(found))
    return found


async def test_a_page_has_a_bound_whatever_is_asked_for(monkeypatch):
    monkeypatch.setattr(chain_reader, "PAGE_MAX", 2)
    stored = StoredChain()
    await stored.fill(3)

    assert len(stored.store.verdict_transactions(after=None, limit=1_000_000)) == 2


# --- the look-back --------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from([1, 900, 4_999, 5_000, 59_999, 65_000, 65_001, 250_000, 600_000, 600_001]),
        st.sampled_from(["none", "reading", "flow", "both", "gateway", "raise", "lower"]),
    ),
    min_size=1,
    max_size=24,
)


@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_the_look_back_filled_at_start_answers_as_the_one_that_grew(steps):
    with pytest.MonkeyPatch.context() as patch:
        for module in (lookback, transition):
            patch.setattr(module, "VERDICT_WINDOW", 5)
        asyncio.run(grow_and_compare(steps))


async def grow_and_compare(steps):
    stored = StoredChain(
        genesis=make_genesis(
            model=make_model(), parameters=with_parameters(heartbeat_ms=24 * 3_600_000)
        )
    )
    chain = stored.chain
    gateway, first = chain.registration("gateway", roles=("gateway",), limits="5:60,9:600")
    await stored.commit(first)
    device, second = chain.registration("device", gateway=gateway)
    await stored.commit(second)
    for gap_ms, what in steps:
        time_ms = chain.tip.header.time_ms + gap_ms
        match what:
            case "reading":
                reports = [chain.by_device(device, time_ms=time_ms)]
            case "flow":
                reports = [chain.by_device(device, flow(), time_ms=time_ms)]
            case "both":
                reports = [
                    chain.by_device(device, flow(), time_ms=time_ms - 4_000),
                    chain.by_device(device, time_ms=time_ms + FUTURE_DRIFT_MS),
                ]
            case "gateway":
                reports = [chain.by_device(gateway, time_ms=time_ms)]
            case "raise" | "lower":
                change = ParameterChange(
                    name="transaction_lifetime_ms", value="300000" if what == "raise" else "5000"
                )
                proposal = chain.by_miner(0, "param.change", change, time_ms=time_ms)
                votes = [chain.vote(voter, proposal) for voter in (1, 2)]
                reports = [proposal, *[later(chain, vote, time_ms) for vote in votes]]
            case _:
                reports = []
        passing = fitting(chain, reports, time_ms)
        await stored.commit(*passing, time_ms=time_ms, round=0 if passing else 1)
        assert_equal_lookbacks(stored)


def later(chain, vote, time_ms):
    """Return the vote, given at another time."""
    payload = replace(vote.payload, time_ms=time_ms)
    return sign_transaction(payload, chain.keys[vote.payload.sender])


def fitting(chain, transactions, time_ms):
    """Return those that the next block may hold: a full rate refuses some."""
    execution = chain.execution(time_ms=time_ms)
    passing = []
    for transaction in transactions:
        try:
            execution.apply(transaction)
        except Rejection:
            continue
        passing.append(transaction)
    return passing


def assert_equal_lookbacks(stored):
    grown, filled = stored.store.tip.recent, stored.open().tip.recent
    tip = stored.chain.tip.header
    times = [block.header.time_ms for block in stored.chain.blocks]
    for subject in filled._sent.keys() | grown._sent.keys():
        for time_ms in times:
            if time_ms >= tip.time_ms - 600_000:
                assert filled.sent_since(subject, time_ms) == grown.sent_since(subject, time_ms)
        window = RateWindow(capacity=2, seconds=600)
        assert max(0, filled.free_at_ms(subject, window) - tip.time_ms) == max(
            0, grown.free_at_ms(subject, window) - tip.time_ms
        )
    for height in range(tip.height - 5, tip.height + 1):
        assert filled.flows(height) == grown.flows(height)
    context = stored.chain.context(time_ms=tip.time_ms + 1)
    for block in stored.chain.blocks:
        for transaction in block.transactions:
            try:
                check_timely(transaction, context)
            except Rejection:
                continue
            # What is timely still has to be known as a duplicate.
            assert grown.has_id(transaction.id)
            assert filled.has_id(transaction.id)


async def test_the_look_back_reaches_over_the_whole_verdict_window():
    stored = StoredChain()
    device, registration = stored.chain.registration("device")
    await stored.commit(registration)
    await stored.commit(stored.chain.by_device(device, flow()))
    judged = stored.store.height
    for _ in range(VERDICT_WINDOW):
        await stored.commit(time_ms=stored.chain.tip.header.time_ms + 60_000)

    assert stored.open().tip.recent.flows(judged) == stored.store.tip.recent.flows(judged) != ()
    await stored.commit(time_ms=stored.chain.tip.header.time_ms + 60_000)
    assert stored.open().tip.recent.flows(judged) == stored.store.tip.recent.flows(judged) == ()


async def test_a_start_reads_no_transactions():
    stored = StoredChain()
    await stored.fill(6)
    stored.kv.write(WriteBatch(writes=dict.fromkeys(entries_of(stored, schema.BODY))))

    assert_equal_lookbacks(stored)


async def test_blocks_without_summaries_are_summarised_at_start():
    stored = StoredChain()
    await stored.fill(6)
    summaries = entries_of(stored, schema.SUMMARY)
    assert len(summaries) == stored.store.height
    stored.kv.write(WriteBatch(writes=dict.fromkeys(summaries[::2])))

    assert_equal_lookbacks(stored)


def entries_of(stored, prefix):
    return [key for key in dump(stored.kv) if key.startswith(prefix)]


async def test_a_changed_parameter_is_in_force_at_once_and_after_a_restart():
    stored = StoredChain()
    change = ParameterChange(name="block_transactions_max", value="7")
    proposal = stored.chain.by_miner(0, "param.change", change)

    await stored.commit(proposal, *[stored.chain.vote(voter, proposal) for voter in (1, 2)])

    assert parameters_of(stored.store.state).block_transactions_max == 7
    assert parameters_of(stored.open().state).block_transactions_max == 7
