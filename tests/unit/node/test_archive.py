"""Archives: what was exported comes back, and nothing else is taken for it."""

import os
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain.archive import FILE_HEADER, FRAME_HEAD, ArchivedBlock, Begin, End, encode_archive
from chain.errors import WrongChain
from node import archive as archive_module
from node import files
from node.archive import export_archive, import_archive, verify_archive
from node.errors import ArchiveGap, BadArchive, DiskFull, FileTaken, Pruned
from node.storage import schema
from node.storage.leveldb import LevelDbStore
from node.storage.verify import verify_store
from tests.builders import make_genesis
from tests.simulation.disk import PowerLost, SimulatedDisk, SimulatedExecutor
from tests.unit.node.storage.stored_chain import StoredChain, dump, shrink_windows
from tests.unit.node.storage.test_pruning import aged, prune_each


async def exported(path: Path, **fields: int) -> StoredChain:
    """Return a chain, miners of which change within it, and put it into an archive."""
    stored = StoredChain()
    proposal = stored.chain.by_miner(0, "miner.propose", stored.chain.addition())
    await stored.commit(proposal, stored.chain.vote(1, proposal), stored.chain.vote(2, proposal))
    await stored.fill(3)
    export_archive(
        stored.store,
        path,
        first=fields.get("first", 1),
        last=fields.get("last", stored.store.height),
    )
    return stored


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chain.archive"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    import asyncio

    path = tmp_path_factory.mktemp("archive") / "chain.archive"
    stored = asyncio.run(exported(path))
    return stored.chain.genesis, path.read_bytes()


def copy_of(stored: StoredChain, kv=None, executor=None) -> StoredChain:
    return StoredChain(kv, genesis=stored.chain.genesis, executor=executor)


# --- there and back -------------------------------------------------------------------------------


async def test_what_was_exported_comes_back_entry_for_entry(path, tmp_path):
    stored = await exported(path)
    kv = LevelDbStore(tmp_path / "db")
    empty = copy_of(stored, kv)

    assert await import_archive(empty.store, path) == stored.store.height

    assert dump(kv) == dump(stored.kv)
    assert list(verify_store(kv, stored.chain.genesis)) == []
    kv.close()


async def test_an_archive_proves_itself_from_genesis_states_included(path):
    stored = await exported(path)
    told: list[int] = []

    summary = verify_archive(path, genesis=stored.chain.genesis, progress=told.append)

    assert (summary.first, summary.last) == (1, stored.store.tip.header)
    assert summary.is_executed
    assert told == list(range(1, stored.store.height + 1))


async def test_a_part_is_proven_by_any_trusted_block_of_it(path):
    stored = await exported(path, first=3, last=5)
    for trusted in range(2, 6):
        header = stored.store.header(trusted)
        assert header is not None
        summary = verify_archive(path, trusted=header.hash)
        assert (summary.first, summary.last.height, summary.is_executed) == (3, 5, False)

    with pytest.raises(BadArchive, match="no block of it has the trusted hash"):
        verify_archive(path, trusted=stored.store.tip.header.hash)
    with pytest.raises(BadArchive, match="nothing is known to trust it by"):
        verify_archive(path, genesis=stored.chain.genesis)


async def test_a_shorter_chain_is_continued_and_what_it_has_is_passed_over(path, tmp_path):
    stored = await exported(path)
    export_archive(stored.store, tmp_path / "first", first=1, last=3)
    other = copy_of(stored)

    assert await import_archive(other.store, tmp_path / "first") == 3
    assert await import_archive(other.store, path) == stored.store.height - 3
    assert await import_archive(other.store, path) == 0
    assert dump(other.kv) == dump(stored.kv)


async def test_an_archive_that_begins_too_late_is_refused(path):
    stored = await exported(path, first=3)
    other = copy_of(stored)
    before = dump(other.kv)

    with pytest.raises(ArchiveGap, match="begins with block 3, and the last one here is 0"):
        await import_archive(other.store, path)

    assert dump(other.kv) == before


async def test_another_chain_is_refused_and_nothing_changes(path):
    await exported(path)
    other = StoredChain(genesis=make_genesis(miners=7))
    before = dump(other.kv)

    with pytest.raises(WrongChain):
        await import_archive(other.store, path)
    with pytest.raises(WrongChain):
        verify_archive(path, genesis=other.chain.genesis)

    assert dump(other.kv) == before


async def test_a_fork_of_what_is_here_is_refused_and_nothing_changes(path):
    stored = await exported(path)
    other = copy_of(stored)
    await other.commit(time_ms=other.chain.next_time_ms + 3_600_000)
    before = dump(other.kv)

    with pytest.raises(BadArchive, match="no block of it has the trusted hash"):
        await import_archive(other.store, path)

    assert dump(other.kv) == before


# --- interrupted ----------------------------------------------------------------------------------


async def test_an_import_interrupted_at_any_write_goes_on(path):
    stored = await exported(path)

    for crash in range(1, stored.store.height + 1):
        disk = SimulatedDisk(Random(crash))
        other = copy_of(stored, disk.open_store(), SimulatedExecutor(disk))
        disk.lose_power_at = disk.syncs + crash
        with pytest.raises(PowerLost):
            await import_archive(other.store, path)
        other = copy_of(stored, disk.open_store(), SimulatedExecutor(disk))
        assert crash - 1 <= other.store.height <= crash
        await import_archive(other.store, path)
        assert dump(other.kv) == dump(stored.kv)


async def test_a_full_disk_leaves_no_archive_behind(path, monkeypatch):
    stored = StoredChain()
    await stored.fill(2)
    monkeypatch.setattr(files, "_open", lambda _: os.open("/dev/full", os.O_WRONLY))

    with pytest.raises(DiskFull):
        export_archive(stored.store, path, first=1, last=2)

    assert list(path.parent.iterdir()) == []


async def test_a_file_that_is_there_is_not_replaced(path):
    stored = await exported(path)
    before = path.read_bytes()

    with pytest.raises(FileTaken):
        export_archive(stored.store, path, first=1, last=2)

    assert path.read_bytes() == before


async def test_what_is_not_whole_any_more_is_not_exported(path, monkeypatch):
    shrink_windows(monkeypatch)
    stored = await aged()
    below = stored.store.spared_from()
    await prune_each(stored, below)

    with pytest.raises(Pruned):
        export_archive(stored.store, path, first=1, last=stored.store.height)
    assert not path.exists()
    export_archive(stored.store, path, first=below, last=stored.store.height)
    tip = stored.store.tip.header
    assert verify_archive(path, trusted=tip.hash).last == tip


# --- damage ---------------------------------------------------------------------------------------


def refused(path: Path, image: bytes, genesis) -> str:
    path.write_bytes(image)
    with pytest.raises((BadArchive, WrongChain)) as caught:
        verify_archive(path, genesis=genesis)
    return str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_refused(sound, tmp_path, data):
    genesis, image = sound
    bit = data.draw(st.integers(0, 8 * len(image) - 1))
    changed = bytearray(image)
    changed[bit // 8] ^= 1 << bit % 8

    refused(tmp_path / "damaged", bytes(changed), genesis)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_file_cut_anywhere_is_refused(sound, tmp_path, data):
    genesis, image = sound

    refused(tmp_path / "damaged", image[: data.draw(st.integers(0, len(image) - 1))], genesis)


def test_what_follows_the_end_is_refused(sound, tmp_path):
    genesis, image = sound

    assert "goes on behind" in refused(tmp_path / "damaged", image + b"\x00", genesis)


def test_a_later_version_and_no_archive_at_all_are_told_apart(sound, tmp_path):
    genesis, image = sound
    later = bytearray(image)
    later[len(FILE_HEADER) - 1] += 1

    assert "version 2; this program reads version 1" in refused(
        tmp_path / "later", bytes(later), genesis
    )
    assert "is no archive" in refused(tmp_path / "other", b"GIF89a and so on", genesis)
    assert "is no archive" in refused(tmp_path / "empty", b"", genesis)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_frames_in_another_order_left_out_or_doubled_are_refused(sound, tmp_path, data):
    genesis, image = sound
    frames, offset = [], len(FILE_HEADER)
    while offset < len(image):
        size = FRAME_HEAD.size + FRAME_HEAD.unpack_from(image, offset)[1]
        frames.append(image[offset : offset + size])
        offset += size
    indexes = data.draw(
        st.lists(st.integers(0, len(frames) - 1), min_size=1, max_size=len(frames) + 2).filter(
            lambda drawn: drawn != list(range(len(frames)))
        )
    )

    refused(
        tmp_path / "damaged", FILE_HEADER + b"".join(frames[index] for index in indexes), genesis
    )


class Forger:
    """Writes archives with right checksums around whatever it likes."""

    def __init__(self, source: Path) -> None:
        self.frames = list(archive_module._read(source))

    def write(self, path: Path) -> None:
        path.write_bytes(b"".join(encode_archive(iter(self.frames))))


def forge_receipts(block: ArchivedBlock) -> ArchivedBlock:
    return ArchivedBlock(
        block=block.block,
        certificate=block.certificate,
        receipts=schema.encode_receipts((), schema.decode_block_receipt(block.receipts)),
        next_miners=block.next_miners,
    )


@pytest.mark.parametrize(
    ("at", "forge", "said"),
    [
        (2, lambda frames: forge_receipts(frames[2]), "block 2: these are not its receipts"),
        (2, lambda frames: frames[3], "block 2: height 3 does not follow"),
        (
            2,
            lambda frames: ArchivedBlock(
                block=frames[2].block,
                certificate=frames[3].certificate,
                receipts=frames[2].receipts,
                next_miners=None,
            ),
            "block 2: the certificate is of another block",
        ),
        (
            0,
            lambda frames: Begin(
                genesis=frames[0].genesis,
                first=1,
                last=frames[0].last,
                parent=frames[0].parent,
                miners=frames[2].next_miners or frames[0].miners[:-1],
            ),
            "block 0: ",
        ),
        (-1, lambda frames: End(count=1, tip=frames[-1].tip), "ends with another block"),
    ],
)
async def test_right_checksums_around_a_lie_are_refused(path, at, forge, said):
    stored = await exported(path)
    forger = Forger(path)
    forger.frames[at] = forge(forger.frames)
    other = copy_of(stored)
    before = dump(other.kv)
    forger.write(path)

    with pytest.raises(BadArchive, match=said):
        verify_archive(path, genesis=stored.chain.genesis)
    with pytest.raises(BadArchive, match=said):
        await import_archive(other.store, path)
    assert dump(other.kv) == before
