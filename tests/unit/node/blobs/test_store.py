"""Blobs on the disk: whole and proven or not there, within bounds, and kept as long as need be."""

from random import Random
from threading import Thread

import pytest

from chain.blobs import CHUNK_SIZE, blob_digest
from chain.errors import InvalidProof
from node.blobs.files import DirectoryFiles
from node.blobs.store import BlobLimits
from node.errors import BlobRefused, DamagedEntry, DiskFull
from tests.simulation.disk import SimulatedDisk
from tests.unit.node.blobs.stored import NOW_MS, blob, blob_store, put

DATA = blob()
DIGEST = blob_digest(DATA)


@pytest.fixture(params=["simulated", "directory"])
def files(request, tmp_path):
    if request.param == "simulated":
        return SimulatedDisk(Random(1)).files
    return DirectoryFiles(tmp_path / "blobs")


@pytest.mark.parametrize("size", [1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * CHUNK_SIZE])
def test_a_blob_is_read_back_after_a_restart_and_every_chunk_proves_itself(files, size):
    data = blob(size)
    digest = put(blob_store(files), data)

    store = blob_store(files)

    assert store.read_whole(digest, size_max=size) == data
    assert store.read_whole(digest, size_max=size - 1) is None
    for index in range(-(-size // CHUNK_SIZE)):
        chunk = store.chunk(digest, index)
        assert chunk is not None
        chunk.verify(digest, index)
    assert store.chunk(digest, -(-size // CHUNK_SIZE)) is None


def test_bytes_of_another_digest_are_refused_and_leave_nothing(files):
    store = blob_store(files)
    draft = store.begin_upload(len(DATA), source="here", digest=DIGEST)
    for index in range(3):
        draft.write(index, bytes(min(CHUNK_SIZE, len(DATA) - index * CHUNK_SIZE)))

    with pytest.raises(InvalidProof):
        store.finish(draft, DIGEST)

    assert store.find(DIGEST) is None
    assert files.sizes() == {}
    assert store.held == (0, 0)


def test_what_the_disk_has_altered_is_found_at_reading_and_can_be_put_again(files):
    put(blob_store(files), DATA)
    files.write(DIGEST.hex(), CHUNK_SIZE + 7, b"\x00altered\x00")
    store = blob_store(files)

    assert store.read(DIGEST, 0) == DATA[:CHUNK_SIZE]
    with pytest.raises(DamagedEntry, match=DIGEST.hex()):
        store.read(DIGEST, 1)

    assert store.find(DIGEST) is None
    put(store, DATA)
    assert store.read_whole(DIGEST, size_max=len(DATA)) == DATA


def test_altered_hashes_are_found_too(files):
    put(blob_store(files), DATA)
    files.write(DIGEST.hex(), len(DATA) + 32, bytes(32))

    with pytest.raises(DamagedEntry, match="hashes"):
        blob_store(files).chunk(DIGEST, 0)


def test_an_upload_that_a_restart_cut_off_is_gone_and_a_part_of_peers_goes_on(files):
    store = blob_store(files)
    upload = store.begin_upload(len(DATA), source="here", digest=DIGEST)
    upload.write(0, DATA[:CHUNK_SIZE])
    part = store.begin_part(len(DATA), DIGEST)
    part.write(1, DATA[CHUNK_SIZE : 2 * CHUNK_SIZE])
    # Its hash is here, but the bytes never reached the disk.
    part.write(2, DATA[2 * CHUNK_SIZE :])
    files.write(f"{DIGEST.hex()}.part", 2 * CHUNK_SIZE, bytes([DATA[-1] ^ 1]))

    store = blob_store(files)
    again = store.begin_part(len(DATA), DIGEST)

    assert list(files.sizes()) == [f"{DIGEST.hex()}.part"]
    assert again.missing == [0, 2]
    again.write(0, DATA[:CHUNK_SIZE])
    again.write(2, DATA[2 * CHUNK_SIZE :])
    store.finish(again, DIGEST)
    assert store.read_whole(DIGEST, size_max=len(DATA)) == DATA
    assert list(files.sizes()) == [DIGEST.hex()]


def test_what_is_forgotten_while_it_comes_is_not_held_in_the_end(files):
    store = blob_store(files)
    part = store.begin_part(len(DATA), DIGEST)
    part.write(0, DATA[:CHUNK_SIZE])

    store.forget([DIGEST])
    for index in part.missing:
        part.write(index, DATA[index * CHUNK_SIZE : (index + 1) * CHUNK_SIZE])

    assert not store.finish(part, DIGEST)
    assert (store.find(DIGEST), store.held, dict(files.sizes())) == (None, (0, 0), {})


@pytest.mark.parametrize("seed", range(30))
def test_a_power_cut_in_the_midst_leaves_the_blob_whole_or_a_part_that_is_gone_on_with(seed):
    disk = SimulatedDisk(Random(seed))
    store = blob_store(disk.files)
    part = store.begin_part(len(DATA), DIGEST)
    part.write(1, DATA[CHUNK_SIZE : 2 * CHUNK_SIZE])

    disk.crash()
    store = blob_store(disk.files)

    assert store.find(DIGEST) is None
    part = store.begin_part(len(DATA), DIGEST)
    for index in part.missing:
        part.write(index, DATA[index * CHUNK_SIZE : (index + 1) * CHUNK_SIZE])
    store.finish(part, DIGEST)
    disk.crash()
    assert blob_store(disk.files).read_whole(DIGEST, size_max=len(DATA)) == DATA


def test_files_that_are_no_blobs_are_removed(files):
    files.write("a" * 64, 0, b"short")
    files.write("readme", 0, bytes(64))
    files.write("b" * 64, 0, bytes(32) + b"\xff" * 32)

    assert blob_store(files).held == (0, 0)
    assert files.sizes() == {}


def test_bounds_of_one_of_a_sender_and_of_all():
    limits = BlobLimits(blob_size_max=1_000, store_size_max=4_000, source_size_max=1_500)
    store = blob_store(limits=limits)
    named = blob_digest(blob(900, seed=9))
    store.named = {named: 900}

    with pytest.raises(BlobRefused) as refused:
        put(store, blob(1_001))
    assert refused.value.code == "too_large"
    put(store, blob(900, seed=1))
    with pytest.raises(BlobRefused, match="share") as refused:
        put(store, blob(900, seed=2))
    assert refused.value.code == "blobs_full"
    put(store, blob(900, seed=3), source="there")
    with pytest.raises(BlobRefused, match="full"):
        put(store, blob(900, seed=4), source="elsewhere")
    # What the chain names finds room all the same, up to the size that it names.
    with pytest.raises(BlobRefused, match="901"):
        store.begin_upload(901, source="anyone", digest=named)
    assert put(store, blob(900, seed=9), source="anyone") == named
    assert store.held[0] == 3


def test_files_of_devices_leave_room_to_what_the_state_names():
    store = blob_store(limits=BlobLimits(store_size_max=4_000))
    files = [blob_digest(blob(900, seed=seed)) for seed in range(4)]
    model = blob_digest(blob(900, seed=9))
    store.files, store.named = dict.fromkeys(files, 900), {model: 900}
    put(store, blob(900, seed=5))
    for seed in range(2):
        assert put(store, blob(900, seed=seed), source="anyone") == files[seed]

    # Three quarters are taken by files and by what nobody names.
    with pytest.raises(BlobRefused, match="full"):
        put(store, blob(900, seed=2))

    assert put(store, blob(900, seed=9)) == model


def test_a_file_stays_as_long_as_it_is_named_and_goes_with_what_came_of_it(files):
    store = blob_store(files)
    whole, part = put(store, DATA), blob_digest(blob(300))
    store.begin_part(300, part)
    store.files = {whole: len(DATA), part: 300}
    later = blob_store(files, now_ms=NOW_MS + 10 * BlobLimits().keep_ms)
    later.files = store.files

    assert later.sweep() == 0
    assert later.forget([whole, part]) == 0
    assert later.find(whole) is not None
    later.files = {}
    assert later.forget([whole, part]) == 1

    assert files.sizes() == {}
    assert later.held == (0, 0)


def test_a_file_that_the_state_names_too_small_is_taken_in():
    store = blob_store()
    digest = blob_digest(blob(900))
    store.name("models", {digest: 1})
    store.files = {digest: 900}

    assert put(store, blob(900)) == digest


def test_what_several_parts_of_the_state_name_is_kept_for_the_larger_size():
    store = blob_store(limits=BlobLimits(store_size_max=4_000))
    update, model = blob_digest(blob(900)), blob_digest(blob(90, seed=2))
    store.name("rounds", {update: 900})
    # A registration may say any size of any digest.
    store.name("models", {model: 90, update: 1})

    assert store.named == {update: 900, model: 90}
    assert put(store, blob(900)) == update
    store.name("rounds", {})
    assert store.named == {update: 1, model: 90}


def test_small_blobs_are_counted_too():
    store = blob_store(limits=BlobLimits(count_max=3))
    for seed in range(3):
        put(store, blob(10, seed=seed))

    with pytest.raises(BlobRefused, match="3 blobs"):
        put(store, blob(10, seed=3))
    store.named = {blob_digest(blob(10, seed=3)): 10}
    put(store, blob(10, seed=3))


def test_drafts_take_room_until_they_are_given_up():
    limits = BlobLimits(store_size_max=4_000, source_size_max=1_500)
    store = blob_store(limits=limits)
    draft = store.begin_upload(1_000, source="here", digest=DIGEST)

    with pytest.raises(BlobRefused):
        put(store, blob(1_000))
    store.abandon(draft)

    put(store, blob(1_000))


def test_the_old_goes_unless_the_chain_names_it(files):
    store = blob_store(files)
    kept, dropped = put(store, DATA), put(store, blob(100))
    store.begin_part(300, blob_digest(blob(300)))
    week = BlobLimits().keep_ms

    later = blob_store(files, now_ms=NOW_MS + week)
    later.named = {kept: len(DATA)}
    assert later.sweep() == 0
    later = blob_store(files, now_ms=NOW_MS + week + 1)
    later.named = {kept: len(DATA)}
    assert later.sweep() == 1

    assert later.find(dropped) is None
    assert later.read_whole(kept, size_max=len(DATA)) == DATA
    assert list(files.sizes()) == [kept.hex()]


def test_a_full_disk_refuses_a_blob_and_leaves_the_store_as_it_was():
    disk = SimulatedDisk(Random(1))
    store = blob_store(disk.files)
    put(store, DATA)
    disk.full = True

    with pytest.raises(DiskFull):
        put(store, blob(100))

    disk.full = False
    assert store.held[0] == 1
    put(store, blob(100))
    assert store.read_whole(DIGEST, size_max=len(DATA)) == DATA


def test_how_much_is_held_is_told_while_a_blob_is_being_synced(tmp_path):
    """The event loop asks, for the metrics; a sync of a large blob may take many seconds."""

    class Asking(DirectoryFiles):
        def finish(self, name, new_name):
            # In another thread, as on the event loop.
            asking = Thread(target=lambda: told.append(store.held), daemon=True)
            asking.start()
            asking.join(5)
            super().finish(name, new_name)

    told: list[tuple[int, int]] = []
    store = blob_store(Asking(tmp_path))
    put(store, DATA)

    assert [count for count, _ in told] == [0]
    assert store.held[0] == 1


def test_others_are_read_and_taken_in_while_a_blob_is_being_synced(tmp_path):
    other, third = blob(seed=2), blob(seed=3)

    class Asking(DirectoryFiles):
        def sync(self, name):
            super().sync(name)
            if not done:
                done.append("begun")
                asking = Thread(target=ask, daemon=True)
                asking.start()
                asking.join(5)

    def ask():
        assert store.read_whole(blob_digest(other), size_max=len(other)) == other
        put(store, third)
        done.append("others")

    done = ["not yet"]
    store = blob_store(Asking(tmp_path))
    put(store, other)
    done.clear()
    put(store, DATA)

    assert done == ["begun", "others"]
    assert store.held[0] == 3


def test_a_draft_that_is_forgotten_as_the_disk_refuses_it_is_refused_as_any_other(tmp_path):
    class Failing(DirectoryFiles):
        def write(self, name, offset, data):
            store.forget([DIGEST])
            raise DiskFull(tmp_path, "no room")

    store = blob_store(Failing(tmp_path))

    with pytest.raises(DiskFull):
        store.begin_part(len(DATA), DIGEST)
    assert store.held == (0, 0)
