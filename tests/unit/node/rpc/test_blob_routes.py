"""Blobs over HTTP: handed in whole and proven, read in parts, refused with a code."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from chain.blobs import CHUNK_SIZE, blob_digest
from node.blobs.store import BlobLimits
from node.rpc.handlers import blobs
from tests.unit.node.blobs.stored import blob, blob_store, put
from tests.unit.node.rpc.test_openapi import SCHEMAS, errors

DATA = blob(2 * CHUNK_SIZE + 77)
DIGEST = blob_digest(DATA)
URL = f"/v1/blobs/{DIGEST.hex()}"


async def code_of(answer):
    return answer.status, (await answer.json())["code"]


async def test_a_blob_is_handed_in_and_read_back(client, node):
    answer = await client.put(URL, data=DATA)

    document = await answer.json()
    assert answer.status == 200
    assert errors(SCHEMAS["Blob"], document) == []
    assert document == {"id": DIGEST.hex(), "size": len(DATA), "chunks": 3}
    assert (await (await client.put(URL, data=b"")).json()) == document
    answer = await client.get(URL)
    assert await answer.read() == DATA
    assert answer.headers["Content-Type"] == "application/octet-stream"
    answer = await client.head(URL)
    assert (answer.headers["Content-Length"], await answer.read()) == (str(len(DATA)), b"")
    assert len(node.files.sizes()) == 1


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        (f"bytes={CHUNK_SIZE - 3}-{2 * CHUNK_SIZE}", CHUNK_SIZE - 3, 2 * CHUNK_SIZE + 1),
        ("bytes=-9", len(DATA) - 9, len(DATA)),
        (f"bytes={CHUNK_SIZE}-", CHUNK_SIZE, len(DATA)),
        (f"bytes=5-{10 * len(DATA)}", 5, len(DATA)),
    ],
)
async def test_a_range_of_it(client, node, asked, start, stop):
    put(node.blobs, DATA)

    answer = await client.get(URL, headers={"Range": asked})

    assert answer.status == 206
    assert await answer.read() == DATA[start:stop]
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(DATA)}"


async def test_ranges_that_it_does_not_have(client, node):
    put(node.blobs, DATA)
    past = {"Range": f"bytes={len(DATA)}-"}

    assert await code_of(await client.get(URL, headers=past)) == (416, "range_not_satisfiable")
    nonsense = {"Range": "lines=1-2"}
    assert await code_of(await client.get(URL, headers=nonsense)) == (400, "malformed")


async def test_what_is_refused_and_leaves_nothing(client, node):
    async def without_length():
        yield DATA

    node.blobs.limits = BlobLimits(blob_size_max=len(DATA))
    refused = {
        (404, "not_found"): await client.get(URL),
        (422, "wrong_digest"): await client.put(URL, data=DATA[::-1]),
        (411, "length_required"): await client.put(URL, data=without_length()),
        (413, "too_large"): await client.put(URL, data=DATA + b"\0"),
        (400, "malformed"): await client.put("/v1/blobs/x", data=DATA),
    }

    for expected, answer in refused.items():
        assert await code_of(answer) == expected
    assert await code_of(await client.put(URL, data=b"")) == (400, "malformed")
    assert node.files.sizes() == {}
    assert node.blobs.held == (0, 0)


async def test_a_full_store_and_a_full_disk_have_one_code(client, node):
    node.blobs.limits = BlobLimits(store_size_max=len(DATA))
    assert await code_of(await client.put(URL, data=DATA)) == (507, "blobs_full")

    node.blobs.limits = BlobLimits()
    node.files._disk.full = True
    assert await code_of(await client.put(URL, data=DATA)) == (507, "blobs_full")
    assert node.blobs.held == (0, 0)


async def test_a_blob_that_fails_in_the_midst_is_cut_off_and_nothing_passes_for_its_end(
    client, node
):
    put(node.blobs, DATA)
    node.files.write(DIGEST.hex(), CHUNK_SIZE + 5, b"damaged")
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(f"GET {URL} HTTP/1.1\r\nHost: node\r\n\r\n".encode())
    received = b""
    with suppress(ConnectionResetError):
        async with asyncio.timeout(5):
            while part := await reader.read(CHUNK_SIZE):
                received += part
    writer.close()
    with suppress(ConnectionResetError):
        await writer.wait_closed()

    assert received.count(b"HTTP/1.1") <= 1
    assert len(received) < len(DATA)
    assert b"securenet_storage_damaged_total 1.0" in node.metrics.render()
    assert (await client.get("/v1/status")).status == 200


@pytest.mark.parametrize("names", ["named", "files"])
async def test_from_another_machine_comes_what_the_chain_names(client, node, monkeypatch, names):
    monkeypatch.setattr(blobs, "is_loopback", lambda host: False)
    assert await code_of(await client.put(URL, data=DATA)) == (403, "upload_forbidden")

    setattr(node.blobs, names, {DIGEST: len(DATA)})

    assert (await client.put(URL, data=DATA)).status == 200


async def test_an_upload_that_stops_in_the_midst_is_given_up(client, node, limits):
    async def stalling():
        yield DATA[:CHUNK_SIZE]
        await asyncio.sleep(60)

    length = {"Content-Length": str(len(DATA))}
    answer = await client.put(URL, data=stalling(), headers=length)

    assert await code_of(answer) == (408, "request_timeout")
    assert node.blobs.held == (0, 0)
    assert node.files.sizes() == {}


@asynccontextmanager
async def coming_in(client, node, *urls):
    """Send no more than the first bytes of blobs to these."""
    more = asyncio.Event()

    async def slowly():
        yield b"x"
        await more.wait()

    async with asyncio.TaskGroup() as group:
        length = {"Content-Length": "9"}
        for url in urls:
            group.create_task(client.put(url, data=slowly(), headers=length))
        while len(node.files.sizes()) < len(urls):
            await asyncio.sleep(0.01)
        yield
        more.set()


async def test_slow_uploads_leave_room_to_what_the_state_names(client, node):
    others = [f"/v1/blobs/{number:064x}" for number in range(4)]
    node.blobs.name("rounds", {DIGEST: len(DATA)})

    async with coming_in(client, node, *others):
        refused = await client.put(f"/v1/blobs/{4:064x}", data=b"one more")
        taken = await client.put(URL, data=DATA)

        assert await code_of(refused) == (503, "busy")
        assert "Retry-After" in refused.headers
        assert taken.status == 200

    assert list(node.files.sizes()) == [DIGEST.hex()]


async def test_one_other_machine_leaves_room_to_the_rest(client, node, monkeypatch):
    names = [blob(100 + number) for number in range(5)]
    urls = [f"/v1/blobs/{blob_digest(data).hex()}" for data in names]
    node.blobs.name("rounds", {blob_digest(data): len(data) for data in names})
    monkeypatch.setattr(blobs, "is_loopback", lambda host: False)

    async with coming_in(client, node, *urls[:4]):
        refused = await client.put(urls[4], data=names[4])
        assert await code_of(refused) == (503, "busy")
        monkeypatch.setattr(blobs, "is_loopback", lambda host: True)
        assert (await client.put(urls[4], data=names[4])).status == 200


async def test_a_damaged_blob_is_told_and_gone(client, node):
    node.blobs = blob_store(node.files)
    put(node.blobs, DATA)
    node.files.write(DIGEST.hex(), 5, b"altered")

    assert await code_of(await client.get(URL)) == (500, "damaged")
    assert await code_of(await client.get(URL)) == (404, "not_found")
