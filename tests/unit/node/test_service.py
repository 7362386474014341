"""A whole node from outside: what it answers, and that nothing a peer sends ends it."""

import asyncio
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.blobs import CHUNK_SIZE
from chain.kinds.device_data import DeviceData
from chain.merkle import merkle_root
from chain.parameters import FUTURE_DRIFT_MS, Parameters
from chain.payloads import Chunked
from chain.transactions import Transaction
from consensus.codec import encode_message
from node import protocol
from node.errors import CorruptStore, MempoolFull
from node.intake import PEER_SIZE_MAX
from node.mempool import MempoolLimits
from node.peer_messages import MALFORMED_POINTS
from node.ports import WriteBatch
from node.protocol import (
    CHUNK,
    GET_CHUNK,
    GET_PROPOSAL,
    KINDS,
    TRANSACTIONS,
    ChunkAnswer,
    GetProposal,
    encode_body,
)
from node.storage import schema
from tests.builders import digest_of, forged, with_parameters
from tests.simulation.loop import new_loop
from tests.unit.node.blobs.stored import blob, blob_store, put
from tests.unit.node.fakes import simulated
from tests.unit.node.lone_node import LoneNode, node_id, settle
from tests.unit.node.test_protocol import SAMPLES

PEER = node_id(1)
LOOKBACK_S = (Parameters().transaction_lifetime_ms + FUTURE_DRIFT_MS) // 1_000
"""So long the ids of blocks are held."""


def valid_payloads(lone: LoneNode) -> dict[int, bytes]:
    block = lone.chain.block(lone.chain.registration("device")[1])
    payloads = {kind: encode_body(kind, body) for kind, body in SAMPLES.items()}
    payloads[protocol.CONSENSUS] = encode_message(lone.prepare(1, block))
    return payloads


@pytest.mark.attack("D6")
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_bytes_of_a_peer_end_the_node(seed):
    loop = new_loop()
    try:
        loop.run_until_complete(noise(Random(seed)))
    finally:
        loop.close()
    assert loop.failures == []


async def noise(random):
    lone = LoneNode(0)
    payloads = valid_payloads(lone)
    async with lone.running():
        for _ in range(200):
            kind = random.choice(sorted(KINDS))
            payload = bytearray(payloads[kind])
            match random.randrange(5):
                case 0:
                    payload = bytearray(random.randbytes(random.randrange(80)))
                case 1:
                    for _ in range(random.randrange(1, 4)):
                        payload[random.randrange(len(payload))] = random.randrange(256)
                case 2:
                    del payload[random.randrange(len(payload)) :]
                case 3:
                    payload += random.randbytes(random.randrange(1, 9))
                case _:
                    pass
            lone.node.receiver.on_message(node_id(random.randrange(6)), kind, bytes(payload))
            if random.random() < 0.1:
                await asyncio.sleep(random.random())
            if random.random() < 0.05:
                lone.node.receiver.on_disconnected(PEER)
                lone.node.receiver.on_connected(PEER)
        await asyncio.sleep(1)
        # It works as before.
        block = lone.chain.block(lone.chain.registration("device")[1])
        await lone.driver.commit_fetched([lone.fetched(block)])
        assert lone.height == 1


@pytest.mark.attack("D6")
@simulated
@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_peer_pays_for_what_cannot_be_read(kind):
    lone = LoneNode(0)

    lone.node.receiver.on_message(PEER, kind, b"\xc0")

    assert [blame[:2] for blame in lone.wire.blames] == [(PEER, MALFORMED_POINTS)]
    assert lone.refused() == {"malformed": 1}


@simulated
async def test_damage_of_the_own_disk_is_no_fault_of_the_peer_that_asked():
    lone = LoneNode(0)
    block = lone.chain.block(lone.chain.registration("device")[1])
    lone.kv.write(WriteBatch(writes={schema.PROPOSED + block.header.hash: b"\x90"}))
    question = encode_body(GET_PROPOSAL, GetProposal(block=block.header.hash))

    with pytest.raises(CorruptStore):
        lone.node.receiver.on_message(PEER, GET_PROPOSAL, question)

    assert lone.wire.blames == []


@simulated
async def test_batches_beyond_what_may_wait_are_not_even_read():
    lone = LoneNode(0)
    size = PEER_SIZE_MAX // 8
    for _ in range(8):
        lone.node._intake.on_transactions(PEER, (bytes(size),))

    lone.node.receiver.on_message(PEER, TRANSACTIONS, b"\xc0")

    assert lone.refused() == {"intake_full": 1}


@simulated
async def test_the_pool_has_the_bounds_that_it_is_given():
    lone = LoneNode(0, mempool=MempoolLimits(transactions_max=32))
    wires = [lone.chain.registration(f"device-{number}")[1].wire for number in range(3)]

    results = await lone.node.submit(wires)

    assert [type(result.error) for result in results] == [type(None), type(None), MempoolFull]


# --- what it tells --------------------------------------------------------------------------------


def status_of(lone: LoneNode, transaction: Transaction) -> tuple[str, str | None]:
    status = lone.node.transaction(transaction.id)
    return status.status, status.code


@simulated
async def test_a_transaction_is_unknown_then_pending_then_committed_with_its_receipt():
    lone = LoneNode(1 if LoneNode(0).proposer() == 0 else 0)
    _, registration = lone.chain.registration("device")
    block = lone.chain.block(registration)
    async with lone.running():
        assert status_of(lone, registration) == ("unknown", None)
        await lone.node.submit([registration.wire])
        assert status_of(lone, registration) == ("pending", None)
        waiting = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            wait = group.create_task(lone.node.wait_transaction(registration.id, 60_000))
            height = group.create_task(lone.node.wait_height(1))
            await asyncio.sleep(0.5)
            lone.agree(block)
        assert asyncio.get_running_loop().time() - waiting < 1

    assert height.done()
    committed = wait.result()
    assert (committed.status, committed.height) == ("committed", 1)
    assert committed.transaction is not None
    assert committed.transaction.wire == registration.wire
    assert committed.receipt is not None
    assert committed.receipt.transaction_id == registration.id


@simulated
async def test_what_is_committed_while_it_is_looked_for_is_never_unknown(monkeypatch):
    lone = LoneNode(0)
    chain, pool = lone.node.chain, lone.node._mempool
    _, registration = lone.chain.registration("device")
    look = chain.transaction

    def look_and_be_late(id):
        found = look(id)
        pool.remove([id])
        return found

    async with lone.running():
        await lone.node.submit([registration.wire])
        monkeypatch.setattr(chain, "transaction", look_and_be_late)
        assert status_of(lone, registration) == ("pending", None)


@simulated
async def test_a_refused_transaction_says_why():
    lone = LoneNode(0)
    transaction = lone.chain.by_device(lone.chain.registration("device")[0])
    async with lone.running():
        await lone.node.submit([transaction.wire])

    assert status_of(lone, transaction) == ("rejected", "unknown_device")


@simulated
async def test_a_forged_transaction_leaves_no_word_on_the_original():
    lone = LoneNode(0)
    transaction = lone.chain.registration("device")[1]
    async with lone.running():
        await lone.node.submit([forged(transaction).wire])

    assert status_of(lone, transaction) == ("unknown", None)


@simulated
async def test_a_wait_ends_when_its_time_is_up_or_the_transaction_has_expired():
    parameters = with_parameters(transaction_lifetime_ms=5_000, heartbeat_ms=24 * 3_600_000)
    lone = LoneNode(1 if LoneNode(0).proposer() == 0 else 0, parameters=parameters)
    _, registration = lone.chain.registration("device")
    loop = asyncio.get_running_loop()
    async with lone.running():
        await lone.node.submit([registration.wire])
        begun = loop.time()
        status = await lone.node.wait_transaction(registration.id, 1_200)
        assert status.status == "pending"
        assert 1.2 <= loop.time() - begun < 1.3
        status = await lone.node.wait_transaction(registration.id, 60_000)
        assert status.status == "expired"
        assert loop.time() - begun < 10


@simulated
async def test_a_node_says_how_it_is():
    lone = LoneNode(0)
    async with lone.running():
        before = lone.node.status()
        assert (before.miner_id, before.syncing, before.highest_seen) == (lone.miner, False, 0)
        assert set(before.peers) == {node_id(number) for number in lone.others}
        lone.node.receiver.on_message(
            PEER, protocol.STATUS, encode_body(protocol.STATUS, SAMPLES[protocol.STATUS])
        )
        await settle()
        after = lone.node.status()

    assert (after.syncing, after.highest_seen) == (True, 7)
    assert LoneNode(9).node.status().miner_id is None


@pytest.mark.attack("D18")
@simulated
async def test_what_a_node_holds_in_memory_does_not_grow_with_its_chain():
    lone = LoneNode(0, miners=1)
    chain = lone.chain
    device, registration = chain.registration("device")
    held = []
    async with lone.running():
        await lone.node.submit([registration.wire])
        for _ in range(3):
            for _ in range(LOOKBACK_S):
                await asyncio.sleep(1)
                report = chain.by_device(device, time_ms=lone.clock.wall_ms())
                (result,) = await lone.node.submit([report.wire])
                assert result.error is None
            held.append(lone.node.held())

    assert lone.height >= 3 * LOOKBACK_S
    assert held[1].pop("verified") < held[2].pop("verified"), "bounded by its own rule"
    assert held[1] == held[2]
    assert held[2]["lookback_ids"] <= LOOKBACK_S
    assert held[2]["lookback_subjects"] > 0


class Stuck:
    """An executor on whose disk every call takes for ever."""

    def __init__(self):
        self.calls = 0

    async def run(self, function, *args):
        self.calls += 1
        await asyncio.Event().wait()


@simulated
async def test_a_blob_that_takes_long_to_be_written_holds_up_no_block():
    """Files of devices come to all nodes at the same time: the chain would wait for their disks."""
    stuck = Stuck()
    lone = LoneNode(0, bulk=stuck)
    data = blob(CHUNK_SIZE)
    file = Chunked(root=merkle_root([data]), size_bytes=len(data), manifest=digest_of("manifest"))
    device, registration = lone.chain.registration("camera")
    held = blob_store()
    put(held, data)

    async def commit(transaction):
        block = lone.chain.block(transaction)
        fetched = lone.fetched(block)
        lone.chain.accept(block)
        await lone.driver.commit_fetched([fetched])

    async with lone.running():
        await commit(registration)
        await commit(lone.chain.by_device(device, DeviceData(payload=file)))
        for _ in range(40):
            await asyncio.sleep(0.1)
            for peer, asked in lone.wire.take(GET_CHUNK):
                chunk = held.chunk(asked.digest, asked.index)
                answer = ChunkAnswer(digest=asked.digest, index=asked.index, chunk=chunk)
                lone.node.receiver.on_message(peer, CHUNK, encode_body(CHUNK, answer))
        assert stuck.calls
        await commit(lone.chain.registration("meter")[1])

        assert lone.height == 3
