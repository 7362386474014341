"""What the chain's store remembers of the last blocks is what it wrote."""

from node.storage.chain_store import RECENT_BLOCKS, ChainStore
from tests.unit.node.rpc.chain_node import ChainNode, Inline


async def test_recent_blocks_from_memory_equal_those_read_from_the_store():
    node = ChainNode()
    await node.register()
    for _ in range(RECENT_BLOCKS + 1):
        await node.mine(node.report(0), node.report(1), round=1)
        node.now_ms += 60_000

    opened = ChainStore(node.chain._store, node.genesis, Inline(), path=node.chain.path)

    for height in range(node.chain.height + 1):
        ours, theirs = node.chain.block(height), opened.block(height)
        assert theirs is not None
        assert ours.header == theirs.header
        assert [tx.wire for tx in ours.transactions] == [tx.wire for tx in theirs.transactions]
        assert node.chain.receipts(height) == opened.receipts(height)
        assert node.chain.block_receipt(height) == opened.block_receipt(height)
        assert list(node.chain.wires(height)) == [tx.wire for tx in ours.transactions]


async def test_no_more_than_the_last_blocks_stay_in_memory():
    node = ChainNode(limits="")
    await node.register()

    for _ in range(3 * RECENT_BLOCKS):
        await node.mine(node.report(0))

    assert list(node.chain._recent) == list(
        range(node.chain.height - RECENT_BLOCKS + 1, node.chain.height + 1)
    )
