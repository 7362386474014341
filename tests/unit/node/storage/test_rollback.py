"""Going back: the store is then what it was, entry for entry, wherever it is interrupted."""

from random import Random

import pytest

from node.errors import CorruptStore, Pruned
from node.ports import WriteBatch
from node.storage import chain_store, schema
from node.storage.rollback import lowest_height, roll_back
from tests.simulation.disk import PowerLost, SimulatedDisk, SimulatedExecutor
from tests.unit.node.storage.stored_chain import StoredChain, dump, shrink_windows
from tests.unit.node.storage.test_pruning import aged, prune_each
from tests.unit.node.storage.test_verify import findings


async def with_history() -> tuple[StoredChain, list[dict[bytes, bytes]]]:
    """Return a chain in which miners come and go, and what it was at each height."""
    stored = StoredChain()
    history = [dump(stored.kv)]
    changes = [
        [("miner.propose", stored.chain.addition())],
        [],
        [],
    ]
    for change in changes:
        transactions = []
        for kind, body in change:
            proposal = stored.chain.by_miner(0, kind, body)
            transactions += [
                proposal,
                stored.chain.vote(1, proposal),
                stored.chain.vote(2, proposal),
            ]
        await stored.commit(*transactions)
        history.append(dump(stored.kv))
    before = stored.store.height
    await stored.fill(3)
    while len(history) <= stored.store.height:
        history.append({})
    assert before == 3
    history[-1] = dump(stored.kv)
    return stored, history


async def test_a_store_that_goes_back_is_what_it_was():
    stored, history = await with_history()

    for to in (3, 2, 1, 0):
        roll_back(stored.kv, stored.open(), to)
        assert dump(stored.kv) == history[to]
        assert findings(stored.kv, stored.chain.genesis) == []


async def test_it_goes_on_from_there_as_before():
    stored, history = await with_history()
    roll_back(stored.kv, stored.open(), 2)
    stored.store = stored.open()

    await stored.catch_up()

    assert dump(stored.kv) == history[-1]


async def test_interrupted_at_any_write_it_is_at_some_block_and_goes_on():
    stored, history = await with_history()
    height = stored.store.height

    for crash in range(1, height + 1):
        disk = SimulatedDisk(Random(crash))
        kv = disk.open_store()
        kv.write(WriteBatch(writes=dict(history[-1])))
        copy = StoredChain(kv, genesis=stored.chain.genesis, executor=SimulatedExecutor(disk))
        disk.lose_power_at = disk.syncs + crash
        with pytest.raises(PowerLost):
            roll_back(kv, copy.store, 0)
        copy.kv = disk.open_store()
        reopened = copy.open()
        assert height - crash <= reopened.height <= height - crash + 1
        assert findings(copy.kv, stored.chain.genesis) == []
        roll_back(copy.kv, reopened, 0)
        assert dump(copy.kv) == history[0]


async def test_it_goes_no_further_than_what_it_has_kept(monkeypatch):
    monkeypatch.setattr(chain_store, "UNDO_BLOCKS", 3)
    stored, _ = await with_history()
    before = dump(stored.kv)
    lowest = stored.store.height - 3
    assert lowest_height(stored.store) == lowest

    with pytest.raises(Pruned, match=f"the way back to block {lowest - 1} is not kept"):
        roll_back(stored.kv, stored.store, lowest - 1)
    assert dump(stored.kv) == before

    roll_back(stored.kv, stored.store, lowest)
    again = stored.open()
    assert (again.height, lowest_height(again)) == (lowest, lowest)
    assert findings(stored.kv, stored.chain.genesis) == []
    stored.store = again
    await stored.catch_up()
    assert findings(stored.kv, stored.chain.genesis) == []


async def test_a_pruned_store_goes_back_as_far(monkeypatch):
    shrink_windows(monkeypatch)
    stored = await aged()
    await prune_each(stored, stored.store.spared_from())

    roll_back(stored.kv, stored.open(), stored.store.height - 3)

    assert findings(stored.kv, stored.chain.genesis) == []
    stored.store = stored.open()
    await stored.catch_up()
    assert stored.store.tip.header == stored.chain.tip.header


@pytest.mark.parametrize("value", [None, b"\x00", schema.encode_undo({b"devices/": b"x"})])
async def test_a_way_that_leads_elsewhere_is_refused_and_nothing_changes(value):
    stored, _ = await with_history()
    stored.kv.write(WriteBatch(writes={schema.UNDO + schema.height_bytes(4): value}))
    before = dump(stored.kv)

    with pytest.raises(CorruptStore, match="block 4"):
        roll_back(stored.kv, stored.open(), 2)

    assert dump(stored.kv) == before
