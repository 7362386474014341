"""A store that does not keep the whole chain says so, and from where on it does."""

import pytest

from node.errors import CorruptStore, Pruned
from node.ports import WriteBatch
from node.storage import schema
from tests.unit.node.storage.stored_chain import StoredChain

READERS = {
    schema.HEADER: ["header"],
    schema.BODY: ["block", "wires", "encoded"],
    schema.CERTIFICATE: ["certificate", "encoded"],
    schema.RECEIPTS: ["receipts", "block_receipt"],
}


async def without(what: bytes, first: int) -> StoredChain:
    """Return a chain of which the entries of a class below `first` are gone."""
    stored = StoredChain()
    await stored.fill()
    batch = WriteBatch()
    for height in range(1, first):
        batch.delete(what + schema.height_bytes(height))
    batch.put(schema.first_key(what), schema.height_bytes(first))
    stored.kv.write(batch)
    stored.store = stored.open()
    return stored


@pytest.mark.parametrize("what", READERS)
async def test_what_is_not_kept_is_told_from_what_never_was(what):
    stored = await without(what, 3)

    assert stored.store.first(what) == 3
    for name in READERS[what]:
        read = getattr(stored.store, name)
        with pytest.raises(Pruned, match=r"block 2 is not kept; .* from block 3 on") as caught:
            read(2)
        assert caught.value.first == 3
        assert read(3)
        assert not read(stored.store.height + 1) or name == "block_receipt"


async def test_a_store_that_keeps_everything_keeps_it_from_genesis_on():
    stored = StoredChain()
    await stored.fill(1)

    assert [stored.store.first(what) for what in READERS] == [0, 0, 0, 0]


async def test_genesis_is_kept_by_every_node():
    stored = await without(schema.CERTIFICATE, 3)

    assert stored.store.certificate(0) is None
    assert stored.store.receipts(0) == ()


@pytest.mark.parametrize("value", [b"", b"\x03", schema.height_bytes(99)])
async def test_a_store_that_does_not_know_what_it_keeps_does_not_open(value):
    stored = StoredChain()
    await stored.fill(1)
    batch = WriteBatch()
    batch.put(schema.first_key(schema.BODY), value)
    stored.kv.write(batch)

    with pytest.raises(CorruptStore, match="from which height on"):
        stored.open()
