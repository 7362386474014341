"""`securenet db verify`: it names every damage, and finds none in a sound database."""

import random
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from chain.genesis import Genesis
from node.errors import CorruptStore
from node.past import DECIDED, pack_decided
from node.ports import KeyValueStore, WriteBatch
from node.storage import schema
from node.storage.kv import MemoryStore
from node.storage.leveldb import LevelDbStore
from node.storage.snapshots import SnapshotStore
from node.storage.verify import is_of_other_chain, verify_store
from tests.builders import make_genesis
from tests.unit.node.storage.stored_chain import StoredChain, dump

BITS_PER_FILE = 12


async def filled(kv: KeyValueStore | None = None) -> StoredChain:
    """Return a chain of all classes of entries, a proposed block and evidence among them."""
    stored = StoredChain(kv)
    await stored.fill(2)
    _, registration = stored.chain.registration("next")
    await stored.store.store_proposed(stored.chain.block(registration))
    await stored.store.store_evidence(stored.chain.equivocation(1))
    SnapshotStore(stored.kv, keep=1).make(stored.store.view())
    decided = stored.store.decided_from(1)
    assert decided is not None
    key = schema.WAYPOINT + schema.height_bytes(1)
    stored.kv.write(WriteBatch(writes={key: DECIDED.encode(pack_decided(decided))}))
    return stored


CHECKED = sorted(schema.CLASSES.keys() - {schema.INCOMING, schema.REMAINS})
"""What is still coming in proves itself when it is adopted."""


def loaded(entries: dict[bytes, bytes]) -> MemoryStore:
    kv = MemoryStore()
    kv.write(WriteBatch(writes=dict(entries)))
    return kv


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def bits_of(data: bytes, *, drawn: int) -> list[int]:
    """Return the first and the last bit, and some that the data draw."""
    count = 8 * len(data)
    chosen = [
        int.from_bytes(sha256(data + bytes((number,))).digest()[:4], "big") % count
        for number in range(drawn)
    ]
    return sorted({0, count - 1, *chosen})


def findings(kv: KeyValueStore, genesis: Genesis) -> list[str]:
    return [f"{finding.where}: {finding.what}" for finding in verify_store(kv, genesis)]


async def test_a_sound_database_has_no_findings_and_progress_is_told():
    stored = await filled()
    told: list[tuple[int, int]] = []

    assert list(verify_store(stored.kv, stored.chain.genesis, lambda *at: told.append(at))) == []

    height = stored.store.height
    assert told == [(number, height) for number in range(1, height + 1)]


async def test_a_chain_that_has_only_begun_is_sound():
    stored = StoredChain()

    assert findings(stored.kv, stored.chain.genesis) == []


async def test_a_bit_flipped_in_any_value_is_named():
    stored = await filled()
    entries = dump(stored.kv)
    assert sorted({key[:1] for key in entries}) == CHECKED

    missed = [
        (key.hex(), bit)
        for key, value in entries.items()
        for bit in bits_of(value, drawn=2)
        if not findings(loaded(entries | {key: flipped(value, bit)}), stored.chain.genesis)
    ]

    assert missed == []


async def test_a_bit_flipped_in_any_key_is_named():
    stored = await filled()
    entries = dump(stored.kv)

    missed = []
    for key, value in entries.items():
        for bit in bits_of(key, drawn=1):
            moved = {other: there for other, there in entries.items() if other != key}
            moved[flipped(key, bit)] = value
            if not findings(loaded(moved), stored.chain.genesis):
                missed.append((key.hex(), bit))

    assert missed == []


async def test_an_entry_that_is_gone_is_named_unless_it_may_go():
    stored = await filled()
    entries = dump(stored.kv)
    whole = schema.snapshot_key(stored.store.height)

    for key in entries:
        left = {other: there for other, there in entries.items() if other != key}
        is_named = bool(findings(loaded(left), stored.chain.genesis))
        # A snapshot that nothing says is whole may be one in the making.
        may_go = key[:1] in (schema.PROPOSED, schema.EVIDENCE, schema.WAYPOINT) or key == whole
        assert is_named == (not may_go), key.hex()


@pytest.mark.parametrize("prefix", CHECKED)
async def test_an_entry_too_many_is_named(prefix):
    stored = await filled()
    key, value = next(iter(stored.kv.scan(start=prefix, stop=prefix + b"\xff" * 64)))
    stored.kv.write(WriteBatch(writes={key[:-1] + bytes((key[-1] ^ 0x55,)): value}))

    assert findings(stored.kv, stored.chain.genesis)


@pytest.mark.parametrize(
    ("key", "where"),
    [
        (schema.HEADER + schema.height_bytes(2), "header 2"),
        (schema.BODY + schema.height_bytes(2), "body 2"),
        (schema.CERTIFICATE + schema.height_bytes(2), "certificate 2"),
        (schema.RECEIPTS + schema.height_bytes(2), "receipts of block 2"),
        (schema.SUMMARY + schema.height_bytes(2), "summary of block 2"),
        (schema.HEADER + schema.height_bytes(0), "header of block 0"),
        (schema.BODY + schema.height_bytes(0), "body of block 0"),
        (schema.GENESIS_KEY, "meta genesis"),
        (schema.TIP_KEY, "meta tip"),
    ],
)
async def test_the_finding_names_the_entry(key, where):
    stored = await filled()
    stored.kv.write(WriteBatch(writes={key: b"\x00"}))

    assert findings(stored.kv, stored.chain.genesis)[0].startswith(f"{where}: ")


async def test_a_state_entry_is_named_by_its_table():
    stored = await filled()
    key = next(key for key in dump(stored.kv) if key.startswith(schema.STATE + b"device"))
    stored.kv.write(WriteBatch(writes={key: b"\x00"}))

    [finding] = findings(stored.kv, stored.chain.genesis)

    table, _, rest = key[1:].partition(b"/")
    assert finding.startswith(f"state entry {table.decode()}/{rest.hex()}: ")


async def test_what_stands_behind_a_bad_block_is_said_not_to_be_checked():
    stored = await filled()
    stored.kv.write(WriteBatch(writes={schema.BODY + schema.height_bytes(3): b"\x90"}))

    assert (
        f"up to {stored.store.height}, was not checked"
        in findings(stored.kv, stored.chain.genesis)[-1]
    )


async def test_the_database_of_another_chain_is_not_taken_for_a_damaged_one():
    stored = await filled()
    genesis = stored.chain.genesis
    other = make_genesis(miners=5)

    assert is_of_other_chain(stored.kv, other)
    assert not is_of_other_chain(stored.kv, genesis)
    stored.kv.write(WriteBatch(writes={schema.GENESIS_KEY: b"\x00"}))
    assert not is_of_other_chain(stored.kv, genesis)
    assert not is_of_other_chain(MemoryStore(), genesis)


async def test_a_bit_flipped_in_any_file_of_a_database_is_refused_named_or_harmless(tmp_path: Path):
    store = LevelDbStore(tmp_path / "sound")
    stored = await filled(store)
    store.compact()
    await stored.commit(time_ms=stored.chain.next_time_ms + 60_000)
    entries = dump(store)
    store.close()
    draw = random.Random(7)
    named = 0

    for file in sorted((tmp_path / "sound").iterdir()):
        image = file.read_bytes()
        for bit in sorted(
            draw.randrange(8 * len(image)) for _ in range(BITS_PER_FILE if image else 0)
        ):
            copy = tmp_path / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(tmp_path / "sound", copy)
            (copy / file.name).write_bytes(flipped(image, bit))
            try:
                damaged = LevelDbStore(copy)
            except CorruptStore:
                named += 1
                continue
            try:
                found = findings(damaged, stored.chain.genesis)
                named += bool(found)
                if not found:
                    assert dump(damaged) == entries, (file.name, bit)
            finally:
                damaged.close()

    assert named > BITS_PER_FILE
