"""What a node makes of what its peers say of themselves."""

from types import SimpleNamespace
from typing import Any

import pytest

from chain.types import Height
from node.progress import SETTLE_S, Progress
from node.protocol import Status
from tests.unit.node.fakes import address

A, B, C, D = (address(number) for number in range(1, 5))


class Stopped:
    """A clock that a test moves."""

    now_ns = 0

    def monotonic_ns(self):
        return self.now_ns


@pytest.fixture
def clock():
    return Stopped()


def progress_of(clock, *miners, weak_quorum=2):
    members: Any = SimpleNamespace(
        miner_of=lambda peer: peer if peer in miners else None,
        weak_quorum=weak_quorum,
        others=lambda: list(miners),
    )
    return Progress(members=members, clock=clock, is_connected=lambda peer: True)


def status(height, first=0, *snapshots):
    return Status(height=Height(height), first=Height(first), snapshots=snapshots)


def test_a_weak_quorum_of_miners_settles_how_far_the_others_are(clock):
    progress = progress_of(clock, A, B, C)
    progress.on_status(D, status(5))
    progress.on_status(A, status(5))
    assert not progress.is_settled
    progress.on_status(B, status(0))

    assert progress.is_settled
    progress.forget(A)
    assert progress.is_settled


def test_after_a_while_one_peer_is_enough_and_nobody_never_is(clock):
    progress = progress_of(clock, A, B, C)
    clock.now_ns = int(SETTLE_S * 1e9)
    assert not progress.is_settled
    progress.on_status(D, status(5))

    assert progress.is_settled


def test_a_single_miner_has_nobody_to_hear(clock):
    assert progress_of(clock, weak_quorum=1).is_settled


@pytest.mark.attack("D8")
def test_one_liar_makes_no_node_believe_that_it_is_behind(clock):
    progress = progress_of(clock, A, B, C)
    for peer, height in ((A, 5), (B, 7), (C, 10**12), (D, 10**12)):
        progress.on_status(peer, status(height))
    assert progress.highest_seen == 7
    progress.saw(C, Height(10**13))
    progress.on_status(C, status(0))

    assert progress.highest_seen == 5


def test_without_miners_an_observer_makes_do_with_what_it_hears(clock):
    progress = progress_of(clock, A, B)
    assert progress.highest_seen == 0
    progress.on_status(D, status(9))
    assert progress.highest_seen == 9
    progress.on_status(A, status(4))

    assert progress.highest_seen == 4


def test_who_has_a_block_says_that_it_keeps_it(clock):
    progress = progress_of(clock, A, B)
    progress.on_status(A, status(10, 4))
    progress.on_status(B, status(6))

    assert progress.holders(3) == [B]
    assert progress.holders(4) == [A, B]
    assert progress.holders(7) == [A]
    assert progress.holders(0) == []


def test_snapshots_are_known_by_who_has_them(clock):
    progress = progress_of(clock, A, B)
    progress.on_status(A, status(10, 0, 5, 10))
    progress.on_status(B, status(10, 0, 5))

    assert progress.snapshots() == {5: [A, B], 10: [A]}
