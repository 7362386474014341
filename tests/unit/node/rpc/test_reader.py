"""Blocks read beside the event loop, and what is kept of them."""

import asyncio

from node.rpc.reader import BlockReader, Cache


def test_the_value_used_longest_ago_gives_way_by_weight():
    cache: Cache[int, str] = Cache(weight_max=10, count_max=100)
    cache.put(1, "a", 4)
    cache.put(2, "b", 4)
    cache.get(1)

    cache.put(3, "c", 4)

    assert [cache.get(height) for height in (1, 2, 3)] == ["a", None, "c"]


def test_the_value_used_longest_ago_gives_way_by_count():
    cache: Cache[int, str] = Cache(weight_max=10, count_max=2)

    for height in range(5):
        cache.put(height, str(height), 0)

    assert len(cache) == 2
    assert cache.get(4) == "4"


def test_one_value_above_the_bound_is_kept_alone():
    cache: Cache[int, str] = Cache(weight_max=10, count_max=2)
    cache.put(1, "a", 1)

    cache.put(2, "b", 99)

    assert (cache.get(1), cache.get(2)) == (None, "b")


def test_a_value_put_again_weighs_once():
    cache: Cache[int, str] = Cache(weight_max=10, count_max=2)
    for _ in range(5):
        cache.put(1, "a", 6)

    cache.put(2, "b", 4)

    assert (cache.get(1), cache.get(2)) == ("a", "b")


async def test_many_who_want_one_block_read_it_once(node, monkeypatch):
    heights = []
    read = node.chain.block

    def counted(height):
        heights.append(height)
        return read(height)

    monkeypatch.setattr(node.chain, "block", counted)
    reader = BlockReader(node.chain)

    found = await asyncio.gather(*(reader.block(1) for _ in range(10)))

    reader.close()
    assert heights == [1]
    assert {block and block.header.hash for block in found} == {node.chain.tip.header.hash}


async def test_a_height_that_is_not_committed_has_no_block(node):
    reader = BlockReader(node.chain)

    assert await reader.block(2) is None

    reader.close()
