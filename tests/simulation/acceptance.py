"""Acceptances of candidates, as their own nodes would make them."""

from typing import Any, Final

from chain.kinds.miners import AddMiner, anchor_height, sign_acceptance
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
