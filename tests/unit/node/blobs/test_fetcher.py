"""Blobs from peers: in parts, from several, on after a break, and nothing false."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from chain.blobs import CHUNK_SIZE, BlobChunk, blob_digest
from chain.types import Address, Digest
from node.blobs.fetcher import BlobFetcher
from node.blobs.sources import ASKED_AT_ONCE, HEDGE_S, HEDGE_S_MAX, LIE_POINTS, PASSED_OVER_S
from node.metrics import Metrics
from node.protocol import CHUNK, GET_CHUNK, KINDS, ChunkAnswer, decode_body, encode_body
from node.round_work import LOOK_S, LOOKED_FOR_AT_ONCE, RoundWork
from tests.simulation.disk import SimulatedDisk
from tests.unit.node.blobs.stored import blob, blob_store, put
from tests.unit.node.fakes import Wire, address, simulated
from tests.unit.node.storage.stored_chain import Inline

DATA = blob(5 * CHUNK_SIZE + 9)
DIGEST = blob_digest(DATA)
A, B, C = (address(number) for number in (1, 2, 3))


class Peers(Wire):
    """Peers that answer for a blob, each in its way.

    Attributes
    ----------
    delay_s, delays_s : float and dict of Address to float
        What an answer takes, and what those of some peers take.
    """

    def __init__(self, *, count: int = 3, **behaviours: Any) -> None:
        super().__init__(*[address(number) for number in range(1, count + 1)])
        self.holder = blob_store()
        put(self.holder, DATA)
        self.asked: list[tuple[Address, int]] = []
        self.behaviours = dict.fromkeys(self.peers, honest)
        self.behaviours |= {{"a": A, "b": B, "c": C}[name]: f for name, f in behaviours.items()}
        self.delay_s = 0.01
        self.delays_s: dict[Address, float] = {}
        self.store = blob_store()
        self.metrics = Metrics()
        self.fetcher = self.new_fetcher()

    def new_fetcher(self) -> BlobFetcher:
        return BlobFetcher(
            store=self.store, transport=self, executor=Inline(), metrics=self.metrics
        )

    def send(self, peer: Address, kind: int, payload: bytes) -> bool:
        assert kind == GET_CHUNK
        if peer not in self.peers:
            return False
        question: Any = decode_body(kind, payload)
        self.asked.append((peer, question.index))
        chunk = self.holder.chunk(question.digest, question.index)
        answer = self.behaviours[peer](question, chunk)
        if answer is not None:
            body: Any = decode_body(CHUNK, encode_body(CHUNK, answer))
            asyncio.get_running_loop().call_later(
                self.delays_s.get(peer, self.delay_s),
                self.fetcher.questions.on_answer,
                peer,
                body,
            )
        return True

    def penalise(self, peer: Address, points: int, reason: str) -> None:
        super().penalise(peer, points, reason)
        self.peers.discard(peer)

    async def fetch(self, size_max: int = len(DATA)) -> bool:
        return await self.fetcher.fetch(DIGEST, size_max=size_max)

    async def time(self, *digests: Digest, size_max: int = len(DATA)) -> float:
        """Fetch blobs one after the other; return how long that took."""
        begun_s = asyncio.get_running_loop().time()
        for digest in digests:
            await self.fetcher.fetch(digest, size_max=size_max)
        return asyncio.get_running_loop().time() - begun_s


class ThinLine(Peers):
    """Peers behind one line, on which one answer waits for the other, wanted or not.

    Attributes
    ----------
    carried : int
        Bytes that it has carried, or is to carry.
    """

    def __init__(self, *, count: int, bytes_per_second: float) -> None:
        super().__init__(count=count)
        self._bytes_per_second = bytes_per_second
        self._free_s = 0.0
        self.carried = 0

    def send(self, peer: Address, kind: int, payload: bytes) -> bool:
        question: Any = decode_body(kind, payload)
        chunk = self.holder.chunk(question.digest, question.index)
        assert chunk is not None
        now_s = asyncio.get_running_loop().time()
        self._free_s = max(self._free_s, now_s) + len(chunk.data) / self._bytes_per_second
        self.delay_s = self._free_s - now_s + 0.02
        self.carried += len(chunk.data)
        return super().send(peer, kind, payload)


def honest(question: Any, chunk: BlobChunk | None) -> ChunkAnswer | None:
    return ChunkAnswer(digest=question.digest, index=question.index, chunk=chunk)


def empty(question: Any, chunk: BlobChunk | None) -> ChunkAnswer | None:
    return honest(question, None)


def silent(question: Any, chunk: BlobChunk | None) -> ChunkAnswer | None:
    return None


def lying(question: Any, chunk: BlobChunk | None) -> ChunkAnswer | None:
    assert chunk is not None
    return honest(question, replace(chunk, data=bytes(len(chunk.data))))


def misplacing(question: Any, chunk: BlobChunk | None) -> ChunkAnswer | None:
    """Answer with a true chunk under another index."""
    assert chunk is not None
    return honest(question, replace(chunk, index=chunk.index + 1))


@simulated
async def test_a_blob_comes_from_all_who_hold_it():
    peers = Peers()
    data = blob(12 * CHUNK_SIZE)
    digest = put(peers.holder, data)

    assert await peers.fetcher.fetch(digest, size_max=len(data))

    assert peers.store.read_whole(digest, size_max=len(data)) == data
    assert sorted(index for _, index in peers.asked) == list(range(12))
    assert {peer for peer, _ in peers.asked} == {A, B, C}
    assert peers.blames == []


@pytest.mark.attack("B15")
@pytest.mark.parametrize("lie", [lying, misplacing])
@simulated
async def test_who_sends_a_false_chunk_is_banned_and_the_others_bring_the_blob(lie):
    peers = Peers(a=lie)

    assert await peers.fetch()

    assert peers.store.read_whole(DIGEST, size_max=len(DATA)) == DATA
    assert [(peer, points) for peer, points, _ in peers.blames] == [(A, LIE_POINTS)]
    assert 'reason="false_chunk"} 1.0' in peers.metrics.render().decode()


@simulated
async def test_who_does_not_hold_it_or_is_silent_is_passed_over_without_blame():
    peers = Peers(a=empty, b=silent)

    assert await peers.fetch()

    assert peers.blames == []


@simulated
async def test_who_does_not_answer_holds_up_no_other_blob_and_is_asked_again_later():
    peers = Peers(a=silent)
    others = [put(peers.holder, blob(100, seed=seed)) for seed in range(3)]

    def asked() -> bool:
        return any(peer == A for peer, _ in peers.asked)

    assert await peers.fetcher.fetch(others[0], size_max=100)
    assert asked()
    peers.asked.clear()
    assert await peers.fetcher.fetch(others[1], size_max=100)
    assert not asked()
    await asyncio.sleep(PASSED_OVER_S)
    peers.behaviours |= {A: honest, B: empty}
    assert await peers.fetcher.fetch(others[2], size_max=100)

    assert [peer for peer, _ in peers.asked] == [B, B, A]
    assert peers.blames == []


@simulated
async def test_a_slow_peer_costs_a_moment_and_is_asked_last_for_a_while():
    peers = Peers()
    peers.delays_s[A] = 4.0
    others = [put(peers.holder, blob(100, seed=seed)) for seed in range(20)]

    assert await peers.time(DIGEST, *others) < HEDGE_S + 1.0

    assert all(peers.store.find(digest) for digest in (DIGEST, *others))
    assert [entry for entry in peers.asked if entry[0] == A] == [(A, 0)]
    assert peers.blames == []


@simulated
async def test_peers_that_say_nothing_hold_up_those_that_do_by_a_moment_each():
    peers = Peers(a=silent, b=silent)

    assert await peers.time(DIGEST) < 2 * HEDGE_S + 1.0

    assert peers.store.find(DIGEST)


@simulated
async def test_who_takes_long_to_say_that_it_has_nothing_does_so_once():
    peers = Peers(a=empty, b=empty, c=empty)
    peers.delays_s[A] = 4.0
    missing = [blob_digest(blob(100, seed=seed)) for seed in range(20)]

    assert await peers.time(*missing) < 6.0

    assert sum([peer == A for peer, _ in peers.asked]) == 1
    assert peers.blames == []


@simulated
async def test_nothing_waits_behind_a_question_whose_answer_is_overdue():
    peers = Peers(b=empty, c=empty)
    peers.delays_s[A] = 4.0
    first, second = (blob_digest(blob(100, seed=seed)) for seed in range(2))

    async with asyncio.TaskGroup() as group:
        group.create_task(peers.time(first))
        await asyncio.sleep(HEDGE_S + 0.1)
        # The others say at once that they have it not; A would say so seven seconds later.
        assert await peers.time(second) < 1.0

    assert sum([peer == A for peer, _ in peers.asked]) == 1


@simulated
async def test_only_so_many_are_asked_at_once_however_many_are_silent():
    peers = Peers(count=10)
    peers.behaviours = dict.fromkeys(peers.behaviours, silent)
    fetching = asyncio.create_task(peers.fetch())

    await asyncio.sleep(4.0)
    assert len(peers.asked) == ASKED_AT_ONCE

    assert not await fetching
    assert len(peers.asked) == 10


@simulated
async def test_the_answer_of_one_that_was_overtaken_is_for_nobody():
    peers = Peers(a=lying)
    peers.delays_s[A] = HEDGE_S + 0.1
    assert await peers.fetch()

    await asyncio.sleep(1.0)

    assert peers.blames == []


@simulated
async def test_on_a_line_on_which_everything_takes_long_little_is_sent_twice():
    peers = Peers()
    peers.delay_s = HEDGE_S_MAX / 3
    digest = put(peers.holder, blob(40 * CHUNK_SIZE))

    assert await peers.fetcher.fetch(digest, size_max=40 * CHUNK_SIZE)

    assert 40 <= len(peers.asked) <= 48


@pytest.mark.parametrize("count", [3, 10])
@pytest.mark.parametrize("megabits_per_second", [1, 4, 16])
@simulated
async def test_a_thin_line_that_all_share_carries_little_twice(megabits_per_second, count):
    bytes_per_second = megabits_per_second * 1_000_000 / 8
    peers = ThinLine(count=count, bytes_per_second=bytes_per_second)
    data = blob(32 * CHUNK_SIZE)
    digest = put(peers.holder, data)
    begun_s = asyncio.get_running_loop().time()

    assert await peers.fetcher.fetch(digest, size_max=len(data))

    took_s = asyncio.get_running_loop().time() - begun_s
    assert peers.carried < 1.25 * len(data)
    assert took_s < 1.25 * len(data) / bytes_per_second


@simulated
async def test_of_peers_with_a_line_each_all_are_asked_soon():
    peers = Peers(count=10)
    peers.delay_s = 1.0
    digest = put(peers.holder, blob(64 * CHUNK_SIZE))

    # At most ten at a time: seven seconds, and some until it is known that so many may be asked.
    assert await peers.time(digest, size_max=64 * CHUNK_SIZE) < 12.0

    assert len(peers.asked) < 1.1 * 64


@simulated
async def test_peers_that_go_once_they_have_answered_end_the_attempt():
    def answering_and_going(question: Any, chunk: BlobChunk | None) -> ChunkAnswer | None:
        peers.peers.clear()
        return honest(question, chunk)

    peers = Peers(a=answering_and_going, b=answering_and_going, c=answering_and_going)

    assert not await peers.fetch()

    peers.peers = {A}
    peers.behaviours[A] = honest
    assert await peers.fetch()


@simulated
async def test_peers_are_asked_no_faster_than_they_answer_however_much_is_missing():
    peers = Peers(a=empty, b=empty, c=empty)
    peers.delay_s = 0
    begun_s = asyncio.get_running_loop().time()

    for _ in range(1_000):
        await peers.fetch()

    took_s = asyncio.get_running_loop().time() - begun_s
    of_one = sum([peer == A for peer, _ in peers.asked])
    policy = KINDS[GET_CHUNK]
    assert of_one == 1_000
    assert of_one <= policy.burst / 2 + policy.messages_per_second * took_s


@simulated
async def test_who_has_helped_is_asked_first_the_next_time():
    peers = Peers(a=empty, b=empty)
    other = put(peers.holder, blob(100))
    assert await peers.fetch()
    peers.asked.clear()

    assert await peers.fetcher.fetch(other, size_max=100)

    assert peers.asked == [(C, 0)]


@simulated
async def test_what_a_peer_begins_and_does_not_send_the_others_send_in_the_same_attempt():
    def until_one(question: Any, chunk: BlobChunk | None) -> ChunkAnswer | None:
        return honest(question, chunk) if question.index < 1 else None

    peers = Peers(b=until_one, c=until_one)

    assert await peers.fetch()

    assert peers.store.read_whole(DIGEST, size_max=len(DATA)) == DATA
    assert {peer for peer, index in peers.asked if index} == {A, B, C}


@simulated
async def test_a_disk_that_fills_up_meanwhile_ends_the_attempt_and_nothing_else():
    peers = Peers()

    def filling(question: Any, chunk: BlobChunk | None) -> ChunkAnswer | None:
        disk.full = question.index >= 2
        return honest(question, chunk)

    disk = SimulatedDisk(Random(1))
    peers.store = blob_store(disk.files)
    peers.fetcher = peers.new_fetcher()
    peers.behaviours = dict.fromkeys((A, B, C), filling)

    assert not await peers.fetch()

    disk.full = False
    peers.behaviours = dict.fromkeys((A, B, C), honest)
    assert await peers.fetch()
    assert peers.store.read_whole(DIGEST, size_max=len(DATA)) == DATA


@simulated
async def test_nobody_holds_it():
    peers = Peers(a=empty, b=empty, c=empty)

    assert not await peers.fetch()

    assert peers.store.held == (0, 0)


@simulated
async def test_chunks_that_came_are_not_asked_for_again_after_a_restart():
    def until_three(question: Any, chunk: BlobChunk | None) -> ChunkAnswer | None:
        return honest(question, chunk) if question.index < 3 else empty(question, chunk)

    peers = Peers(a=until_three, b=empty, c=empty)
    assert not await peers.fetch()
    came = {index for peer, index in peers.asked if peer == A and index < 3}
    assert {0, 1} <= came
    peers.asked.clear()

    peers.store = blob_store(peers.store._files)
    peers.fetcher = peers.new_fetcher()
    peers.behaviours[A] = honest
    assert await peers.fetch()

    # The first is asked for once more: it tells the size.
    asked = sorted(index for peer, index in peers.asked if peer == A)
    assert asked == [0, *sorted(set(range(6)) - came)]
    assert peers.store.read_whole(DIGEST, size_max=len(DATA)) == DATA


@simulated
async def test_a_larger_blob_than_wanted_is_not_fetched():
    peers = Peers()

    assert not await peers.fetch(size_max=len(DATA) - 1)

    assert len(peers.asked) == 1
    assert peers.store.held == (0, 0)


async def look_for(peers: Peers, *digests: Digest) -> dict[Digest, float]:
    """Look for blobs as a miner does for the updates of a round; return when each was here."""
    work = RoundWork.__new__(RoundWork)
    work._bench = SimpleNamespace(fetcher=peers.fetcher)  # type: ignore[assignment]
    found: Any = SimpleNamespace(terms=SimpleNamespace(update_size=4 * CHUNK_SIZE))
    turns = asyncio.Semaphore(LOOKED_FOR_AT_ONCE)
    begun_s = asyncio.get_running_loop().time()
    here_s: dict[Digest, float] = {}

    async def look(digest: Digest) -> None:
        member: Any = SimpleNamespace(update=digest)
        await work._look_for(member, found, turns)
        here_s[digest] = asyncio.get_running_loop().time() - begun_s

    with suppress(TimeoutError):
        async with asyncio.timeout(600):
            await asyncio.gather(*map(look, digests))
    return here_s


@simulated
async def test_on_a_thin_line_that_is_busy_little_comes_twice():
    """Eight updates at 1 Mbit/s: each of four has a chunk in every eight seconds or so."""
    peers = ThinLine(count=3, bytes_per_second=125_000)
    blobs = [blob(4 * CHUNK_SIZE - number) for number in range(1, 9)]
    digests = [put(peers.holder, data) for data in blobs]

    assert set(await look_for(peers, *digests)) == set(digests)

    assert peers.carried < 2.5 * sum(map(len, blobs))


@simulated
async def test_who_sends_a_chunk_now_and_then_holds_up_no_other_updates():
    """A liar holds eight, which come first, and sends a good chunk of each just in time."""
    dripped, honestly = (
        [blob(4 * CHUNK_SIZE, seed=seed + number) for number in range(count)]
        for seed, count in ((100, 8), (200, 2))
    )
    peers = Peers()
    first = [put(peers.holder, data) for data in dripped]
    others = [put(peers.holder, data) for data in honestly]

    def drip(question: Any, chunk: BlobChunk | None) -> ChunkAnswer | None:
        peers.delays_s[A] = LOOK_S - 0.5
        return honest(question, chunk if question.digest in first else None)

    def rest(question: Any, chunk: BlobChunk | None) -> ChunkAnswer | None:
        return honest(question, chunk if question.digest in others else None)

    peers.behaviours = {A: drip, B: rest, C: rest}

    here_s = await look_for(peers, *first, *others)

    assert max(here_s[digest] for digest in others) < 6 * LOOK_S


@simulated
async def test_who_waits_for_nothing_gives_up_after_its_patience_and_may_try_again():
    peers = Peers(a=silent, b=silent, c=silent)
    begun_s = asyncio.get_running_loop().time()

    assert not await peers.fetcher.fetch(DIGEST, size_max=len(DATA), patience_s=2.0)

    assert asyncio.get_running_loop().time() - begun_s == pytest.approx(2.0)
    peers.behaviours = dict.fromkeys((A, B, C), honest)
    await asyncio.sleep(60)
    assert await peers.fetcher.fetch(DIGEST, size_max=len(DATA), patience_s=2.0)
