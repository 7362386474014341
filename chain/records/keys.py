"""What the state holds of keys: for what each may be used."""

from dataclasses import dataclass
from typing import Final

from chain.fields import ADDRESS
from chain.schema import Record, Word
from chain.table import Table
from chain.types import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """For what a key was first used, and so may be used at all.

    Parameters
    ----------
    role : {"miner", "node", "registrar"}
    owner : Address
        The miner, also of a node's key, or the organisation.
    """

    role: str
    owner: Address


KEY_TABLE: Final = Table(
    b"key/", Record(KeyRecord, role=Word("miner", "node", "registrar"), owner=ADDRESS)
)
