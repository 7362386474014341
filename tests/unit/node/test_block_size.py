"""Blocks shrink when rounds fail and grow slowly while none does."""

import pytest

from node.block_size import FULL, GROWTH, SHARE_MIN, BlockSize


def test_a_block_may_take_the_limits_of_the_chain_until_a_round_fails():
    size = BlockSize()
    size.on_committed(0)
    assert size.of(4_000) == 4_000


@pytest.mark.attack("D12")
def test_each_failed_round_halves_the_next_blocks():
    size = BlockSize()
    size.on_committed(2)
    assert size.of(4_000) == 1_000
    size.on_committed(1)
    assert size.of(4_000) == 500


def test_rounds_that_do_not_fail_bring_the_size_back_step_by_step():
    size = BlockSize()
    size.on_committed(1)
    seen = [size.of(FULL)]
    while seen[-1] < FULL:
        size.on_committed(0)
        seen.append(size.of(FULL))
    assert seen == list(range(FULL // 2, FULL + 1, GROWTH))


def test_a_block_never_shrinks_to_nothing():
    size = BlockSize()
    for _ in range(5):
        size.on_committed(100)
    assert size.of(FULL) == SHARE_MIN
    assert size.of(1) == 1


def test_a_block_that_is_small_anyway_does_not_shrink():
    size = BlockSize()
    size.on_committed(100)
    assert [size.of(limit, least=16) for limit in (1, 2, 16, 100, 4_000)] == [1, 2, 16, 16, 62]
