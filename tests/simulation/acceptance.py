"""What a miner's own node signs for a change of membership: that it joins, or has another key."""

from typing import Any, Final

from chain.kinds.miners import (
    AddMiner,
    ReplaceKeys,
    anchor_height,
    sign_acceptance,
    sign_replacement,
)
from tests.simulation.world import PORT, World

ACCEPTANCE_MS: Final = 3_600_000


def addition_of(world: World, name: str, *, host: str | None = None) -> AddMiner:
    """Return the change that makes a miner of `name`, at the block up to which its node has come.

    Parameters
    ----------
    host : str, optional
        Where its node is reached; by default at its name.
    """
    identity = world.identities[name]
    chain = world.node(name).chain
    header = chain.header(anchor_height(chain.height))
    assert header is not None, "the node has come so far"
    values: dict[str, Any] = {
        "height": header.height,
        "block_hash": header.hash,
        "valid_until_ms": world.wall_ms() + ACCEPTANCE_MS,
    }
    node_key = identity.node_key.public
    return AddMiner(
        name=name,
        key=identity.key.public,
        node_key=node_key,
        host=host or name,
        port=PORT,
        acceptance=sign_acceptance(world.genesis.hash, identity.key, node_key, **values),
        **values,
    )


def replacement_of(world: World, name: str) -> ReplaceKeys:
    """Return the change that gives the miner `name` its next key in the place of its first."""
    identity = world.identities[name]
    assert identity.next_key is not None, "there is one"
    values: dict[str, Any] = {
        "key": identity.next_key.public,
        "node_key": identity.node_key.public,
        "valid_until_ms": world.wall_ms() + ACCEPTANCE_MS,
    }
    by_old, by_new, by_node = (
        sign_replacement(world.genesis.hash, identity.miner_id, signer, **values)
        for signer in (identity.key, identity.next_key, identity.node_key)
    )
    return ReplaceKeys(
        miner=identity.miner_id, by_old=by_old, by_new=by_new, by_node=by_node, **values
    )
