"""Which miner a node is, by its keys, and whether it still has the one that the chain asks for."""

from collections.abc import Sequence

import structlog

from chain.crypto import address_of
from chain.key_registry import miner_of_key
from chain.records.miners import MINER_TABLE
from chain.state import State
from chain.types import Address, PublicKey

log = structlog.get_logger(__name__)


class KeyWatch:
    """Tells the operator when the miner's key on record becomes another.

    Parameters
    ----------
    keys : sequence of PublicKey
        Those that the node has: the present one first, then the one that is to replace it. None
        where a process of its own has them: it says itself which it lacks.
    miner : Address, optional
        Whose they are, if the operator says so: a node that begins anew cannot know yet. Needed
        where the node has none.

    Attributes
    ----------
    miner : Address
        The miner that has, or had, the first key; or the one that would begin with it.
    """

    def __init__(self, state: State, keys: Sequence[PublicKey], miner: Address | None) -> None:
        self._state = state
        self._keys = tuple(keys)
        assert keys or miner, "a node knows its miner by its key, or by its id"
        self.miner = miner or miner_of_key(state, keys[0]) or address_of(keys[0])
        self._seen = keys[0] if keys else None

    def look(self) -> None:
        """Look at the registry after a change of the miners."""
        if not self._keys:
            return
        record = self._state.get(MINER_TABLE, self.miner)
        if record is None or record.status == "removed" or record.key == self._seen:
            return
        self._seen = record.key
        if record.key in self._keys:
            log.info("the miner's key was replaced; the next key signs", key=record.key.hex())
        else:
            log.warning(
                "the miner's key was replaced, and this node does not have the new one: it signs "
                "nothing from the height on at which that holds",
                key=record.key.hex(),
                miner=self.miner.hex(),
            )
