"""Whose files are named: within shares of bytes and of files, and no longer than is kept."""

from dataclasses import replace

import pytest

from chain.manifests import MANIFEST_SIZE_MAX
from chain.types import Address
from node.blobs import ledger as ledgers
from node.blobs.ledger import FileLedger, FileLimits, NamedFile
from tests.builders import chunked, digest_of
from tests.unit.node.fakes import address

A, B, C = (address(number) for number in (1, 2, 3))
ACME, GLOBEX = Address(digest_of("acme")), Address(digest_of("globex"))


def entry(
    label: str,
    *,
    device: Address = A,
    organisation: Address = ACME,
    time_ms: int = 1,
    size: int = 1,
) -> NamedFile:
    file = chunked(label, size=size)
    return NamedFile(file=file, device=device, organisation=organisation, time_ms=time_ms)


def share(*sizes: int) -> int:
    return sum(sizes) + MANIFEST_SIZE_MAX * len(sizes)


def test_a_registered_file_is_named_with_the_sizes_that_its_blobs_may_have():
    ledger = FileLedger(FileLimits())
    file = entry("one", size=500)

    assert ledger.register(file)

    assert ledger.named == {file.file.chunks: 500, file.file.manifest: MANIFEST_SIZE_MAX}


def test_a_device_fills_its_own_share_and_no_other():
    ledger = FileLedger(FileLimits(device_size_max=share(600, 300)))

    assert ledger.register(entry("one", size=600))
    assert not ledger.register(entry("two", size=301))
    assert ledger.register(entry("three", size=300))
    assert not ledger.register(entry("four", size=0))
    assert ledger.register(entry("two", device=B, size=301))


def test_many_devices_fill_the_share_of_their_organisation_and_no_other():
    ledger = FileLedger(FileLimits(organisation_size_max=share(100, 100)))

    taken = [ledger.register(entry(owner.hex(), device=owner, size=100)) for owner in (A, B, C)]

    assert taken == [True, True, False]
    assert ledger.register(entry("else", device=C, organisation=GLOBEX, size=100))


@pytest.mark.parametrize("name", ["DEVICE_FILES_MAX", "ORGANISATION_FILES_MAX", "FILES_MAX"])
def test_small_files_are_counted_too(monkeypatch, name):
    monkeypatch.setattr(ledgers, name, 3)
    ledger = FileLedger(FileLimits())

    taken = [ledger.register(entry(str(number), time_ms=number)) for number in range(5)]

    assert taken == [True, True, True, False, False]
    ledger.expire(0)
    assert ledger.register(entry("again", time_ms=9))


def test_what_is_too_old_is_named_no_more_and_gives_its_share_back():
    ledger = FileLedger(FileLimits(device_size_max=share(600)))
    old, young = entry("old", size=600, time_ms=10), entry("young", size=600, time_ms=11)
    ledger.register(old)

    assert ledger.expire(9) == []
    assert ledger.expire(10) == list(old.blobs)

    assert (ledger.named, ledger.count, ledger.oldest_ms) == ({}, 0, None)
    assert ledger.register(young)


def test_a_file_that_was_registered_again_stays_as_long_as_the_younger():
    ledger = FileLedger(FileLimits())
    first = entry("same", time_ms=1)
    ledger.register(first)
    ledger.register(replace(first, device=B, time_ms=2))

    assert ledger.expire(1) == []
    assert set(ledger.named) == set(first.blobs)
    assert ledger.expire(2) == list(first.blobs)
