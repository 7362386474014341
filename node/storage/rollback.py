"""Taking the last blocks of a store back, one by one.

Each block has left how the state was before it. Taking a block back is one synced batch, as adding
it was: a kill at any instant leaves the store at some block, whole. What this node has signed is in
another place, and is never taken back.
"""

from collections.abc import Callable

from chain.blocks import Block, Header
from chain.errors import DecodeError
from node.errors import CorruptStore, Pruned
from node.ports import KeyValueStore, WriteBatch
from node.storage import schema
from node.storage.chain_store import ChainStore
from node.storage.kv import prefix_end
from node.storage.pruning import index_entries
from node.storage.snapshots import SnapshotStore


def roll_back(
    store: KeyValueStore,
    chain: ChainStore,
    to: int,
    progress: Callable[[int], None] = lambda height: None,
) -> None:
    """Make block `to` the last one of `store`; `chain`, which reads it, is of no use afterwards.

    Before anything is written the state is taken back in memory, and each root on the way compared.

    Parameters
    ----------
    progress : callable, optional
        Told each height that was taken back.

    Raises
    ------
    Pruned
        The store has not kept what leads back so far.
    CorruptStore
        What it kept leads elsewhere.
    """
    assert 0 <= to <= chain.height, "there is such a block"
    lowest = lowest_height(chain)
    if to < lowest:
        raise Pruned(f"the way back to block {to}", first=lowest)
    _check_way(store, chain, to)
    SnapshotStore(store, keep=1).drop_above(to)
    for height in range(chain.height, to, -1):
        block = chain.block(height)
        if block is None:
            raise Pruned(f"block {height}", first=chain.whole_from)
        store.write(_undo(store, chain, block))
        progress(height)


def lowest_height(chain: ChainStore) -> int:
    """Return the lowest block to which a store can go back."""
    return min(chain.height, max(1, chain.first(schema.UNDO)) - 1)


def _check_way(store: KeyValueStore, chain: ChainStore, to: int) -> None:
    tree = chain.state.tree
    for height in range(chain.height, to, -1):
        tree = tree.updated(_before(store, chain, height))
        header = _header(chain, height - 1)
        if tree.root != header.state_root:
            raise CorruptStore(
                chain.path, f"the undo entry of block {height} leads to another state"
            )


def _before(store: KeyValueStore, chain: ChainStore, height: int) -> dict[bytes, bytes | None]:
    data = store.get(schema.UNDO + schema.height_bytes(height))
    try:
        if data is not None:
            return schema.decode_undo(data)
    except DecodeError as error:
        raise CorruptStore(chain.path, f"undo entry of block {height}: {error}") from error
    raise CorruptStore(chain.path, f"the undo entry of block {height} is missing")


def _undo(store: KeyValueStore, chain: ChainStore, block: Block) -> WriteBatch:
    """Return what removes the last block and all that came with it."""
    header = block.header
    key = schema.height_bytes(header.height)
    batch = WriteBatch()
    for state_key, value in _before(store, chain, header.height).items():
        if value is None:
            batch.delete(schema.STATE + state_key)
        else:
            batch.put(schema.STATE + state_key, value)
    for prefix in schema.BY_HEIGHT:
        batch.delete(prefix + key)
    batch.delete(schema.HASH + header.hash)
    for index, transaction in enumerate(block.transactions):
        for entry, _ in index_entries(transaction, header.height, index):
            batch.delete(entry)
    if header.next_miner_set_hash != header.miner_set_hash and _is_new(chain, header):
        batch.delete(schema.MINERS + header.next_miner_set_hash)
    for proposed, _ in store.scan(start=schema.PROPOSED, stop=prefix_end(schema.PROPOSED)):
        batch.delete(proposed)
    batch.put(schema.TIP_KEY, schema.height_bytes(header.height - 1))
    return batch


def _is_new(chain: ChainStore, header: Header) -> bool:
    """Tell whether no block before has named the set of miners which this one names next."""
    first = max(1, chain.first(schema.HEADER))
    # The first miners are kept whether or not the headers of their time are.
    return _header(chain, 0).next_miner_set_hash != header.next_miner_set_hash and all(
        _header(chain, height).miner_set_hash != header.next_miner_set_hash
        for height in range(header.height, first - 1, -1)
    )


def _header(chain: ChainStore, height: int) -> Header:
    header = chain.header(height)
    if header is None:
        raise CorruptStore(chain.path, f"the header of block {height} is missing")
    return header
