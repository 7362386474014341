import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.crypto import signing_key
from chain.transactions import attach_signature
from chain.types import Signature
from node.executor_pool import ThreadPool
from node.verification import PIECE_MAX, TURN, Verifier
from tests.unit.node.pool_values import key, make_payload, make_signed

KEY = key(1)
OTHER = key(2)


class Bench:
    """An executor that notes the size of what it runs, and waits while `gate` is closed."""

    def __init__(self):
        self.sizes = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.errors = []

    async def run(self, function, *args):
        self.sizes.append(len(args[0]))
        await asyncio.sleep(0)
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop()
        return function(*args)


@pytest.fixture
def bench():
    return Bench()


def good(count=1):
    return [(make_signed(KEY), KEY.public) for _ in range(count)]


def forged():
    return attach_signature(make_payload(), Signature(b"\x07" * 64)), KEY.public


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize("algorithm", ["ed25519", "p256"])
async def test_a_signature_is_good_under_its_own_key_alone(bench, algorithm):
    signer = signing_key(algorithm, bytes(31) + b"\x09")
    transaction = make_signed(signer)
    verifier = Verifier(bench)

    answers = await verifier.verify_many([(transaction, signer.public), (transaction, KEY.public)])

    assert answers == [True, False]
    assert verifier.is_known(transaction, signer.public)
    assert not verifier.is_known(transaction, KEY.public)


async def test_what_verified_is_not_verified_again(bench):
    verifier = Verifier(bench)
    requests = good(3)
    await verifier.verify_many(requests)
    bench.sizes.clear()

    assert await verifier.verify_many(requests) == [True] * 3
    assert verifier.check(*requests[0])
    assert bench.sizes == []


@pytest.mark.attack("D13")
async def test_a_bad_signature_is_not_remembered(bench):
    verifier = Verifier(bench)
    request = forged()

    assert await verifier.verify(*request) is False
    assert await verifier.verify(*request) is False
    assert not verifier.check(*request)

    assert bench.sizes == [1, 1]
    assert not verifier.is_known(*request)


async def test_another_signature_of_a_known_payload_is_not_known(bench):
    verifier = Verifier(bench)
    transaction, public = good()[0]
    await verifier.verify(transaction, public)
    twin = attach_signature(transaction.payload, Signature(b"\x07" * 64))

    assert not verifier.is_known(twin, public)
    assert not verifier.check(twin, public)


async def test_checking_at_once_remembers_too(bench):
    verifier = Verifier(bench)
    transaction, public = good()[0]

    assert verifier.check(transaction, public)
    assert verifier.is_known(transaction, public)


@pytest.mark.attack("D18")
async def test_only_so_many_are_remembered_and_the_longest_unused_goes(bench):
    verifier = Verifier(bench, remembered_max=2)
    first, second, third = good(3)
    await verifier.verify_many([first, second])
    verifier.check(*first)

    await verifier.verify(*third)

    assert [verifier.is_known(*request) for request in (first, second, third)] == [
        True,
        False,
        True,
    ]


async def test_answers_come_in_the_order_of_the_requests(bench):
    requests = good(300)
    for index in range(0, 300, 7):
        requests[index] = forged()

    answers = await Verifier(bench).verify_many(requests)

    assert answers == [index % 7 != 0 for index in range(300)]


async def test_nothing_asked_is_answered_at_once(bench):
    assert await Verifier(bench).verify_many([]) == []
    assert bench.sizes == []


async def test_single_requests_of_one_turn_become_one_batch(bench):
    verifier = Verifier(bench, threads=1)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(verifier.verify(*request)) for request in good(20)]

    assert bench.sizes == [20]
    assert all(task.result() for task in tasks)


async def test_what_arrives_while_a_batch_runs_becomes_the_next(bench):
    verifier = Verifier(bench, threads=1)
    bench.gate.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(verifier.verify(*good()[0]))
        await until(lambda: bench.sizes == [1])
        for request in good(5):
            group.create_task(verifier.verify(*request))
            await asyncio.sleep(0)
        bench.gate.set()

    assert bench.sizes == [1, 5]


async def test_a_batch_is_cut_into_pieces_for_the_threads(bench):
    await Verifier(bench, threads=2).verify_many(good(30))

    assert bench.sizes == [15, 15]


async def test_pieces_are_bounded(bench):
    await Verifier(bench, threads=2).verify_many(good(3 * PIECE_MAX))

    assert sum(bench.sizes) == 3 * PIECE_MAX
    assert max(bench.sizes) == PIECE_MAX


async def test_a_single_request_does_not_wait_for_the_whole_of_a_large_one(bench):
    verifier = Verifier(bench, threads=1)
    many = asyncio.Event()
    left = []

    async def ask_many():
        await verifier.verify_many(good(20 * PIECE_MAX))
        many.set()

    async def ask_one():
        await verifier.verify(*good()[0])
        left.append(not many.is_set())

    async with asyncio.TaskGroup() as group:
        group.create_task(ask_many())
        await until(lambda: len(bench.sizes) > 0)
        group.create_task(ask_one())

    assert left == [True]
    assert TURN < PIECE_MAX


async def test_a_request_made_twice_at_once_is_verified_once(bench):
    verifier = Verifier(bench, threads=1)
    request = good()[0]
    bench.gate.clear()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(verifier.verify_many([request, request])) for _ in range(3)]
        await until(lambda: bench.sizes == [1])
        tasks.append(group.create_task(verifier.verify_many([request])))
        await asyncio.sleep(0)
        bench.gate.set()

    assert bench.sizes == [1]
    assert [task.result() for task in tasks] == [[True, True]] * 3 + [[True]]


async def test_others_get_their_answers_when_the_leader_is_cancelled(bench):
    verifier = Verifier(bench)
    bench.gate.clear()
    shared = good()[0]
    async with asyncio.TaskGroup() as group:
        leader = group.create_task(verifier.verify_many([shared, *good()]))
        await until(lambda: bench.sizes)
        follower = group.create_task(verifier.verify(*shared))
        other = group.create_task(verifier.verify(*good()[0]))
        await asyncio.sleep(0)
        leader.cancel()
        bench.gate.set()

    assert leader.cancelled()
    assert follower.result()
    assert other.result()
    assert_idle(verifier)


async def test_what_nobody_waits_for_any_more_is_not_verified(bench):
    verifier = Verifier(bench, threads=1)
    bench.gate.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(verifier.verify(*good()[0]))
        await until(lambda: bench.sizes)
        gone = group.create_task(verifier.verify_many(good(10)))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        bench.gate.set()

    assert bench.sizes == [1]
    assert_idle(verifier)


async def test_an_error_of_the_executor_reaches_the_caller_and_can_be_tried_again(bench):
    verifier = Verifier(bench)
    bench.errors.append(RuntimeError("closed"))
    request = good()[0]

    with pytest.raises(RuntimeError, match="closed"):
        await verifier.verify(*request)

    assert_idle(verifier)
    assert await verifier.verify(*request)


async def test_signatures_are_verified_on_real_threads():
    with ThreadPool(2) as pool:
        requests = [*good(100), forged()]
        assert await Verifier(pool).verify_many(requests) == [True] * 100 + [False]


@settings(max_examples=60)
@given(
    callers=st.lists(
        st.tuples(
            st.lists(st.integers(0, 5), max_size=6),  # which requests it makes
            st.integers(0, 6),  # in which turn of the loop it comes
            st.one_of(st.none(), st.integers(0, 8)),  # after how many turns it is cancelled
        ),
        min_size=1,
        max_size=8,
    ),
    failures=st.integers(0, 2),
)
def test_every_caller_is_answered_rightly_whoever_is_cancelled_meanwhile(callers, failures):
    asyncio.run(scene(callers, failures))


REQUESTS = [(make_signed(KEY), (KEY if index % 2 else OTHER).public) for index in range(6)]


async def scene(callers, failures):
    bench = Bench()
    bench.errors = [RuntimeError("closed")] * failures
    verifier = Verifier(bench, threads=1)

    async def come(wanted, turn, patience):
        for _ in range(turn):
            await asyncio.sleep(0)
        asking = asyncio.create_task(verifier.verify_many([REQUESTS[index] for index in wanted]))
        if patience is not None:
            for _ in range(patience):
                await asyncio.sleep(0)
            asking.cancel()
        (answer,) = await asyncio.gather(asking, return_exceptions=True)
        if isinstance(answer, list):
            assert answer == [index % 2 == 1 for index in wanted]
        else:
            assert isinstance(answer, RuntimeError | asyncio.CancelledError)
            assert patience is not None or isinstance(answer, RuntimeError)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(come(*caller))
    assert_idle(verifier)


def assert_idle(verifier):
    assert not verifier._jobs
    assert not verifier._paused
    assert not verifier._is_led
    assert not any(call.jobs for call in verifier._turns)
