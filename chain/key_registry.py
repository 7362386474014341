"""Which keys are taken, by whom, for good: no key is ever used in two places.

A key that has stood for one miner, node or registrar never stands for another, so that whoever
proves a signature knows whose it is, whatever was voted since. Devices are not listed, being far
too many: their keys are kept apart from these when they register or rotate. docs/spec/state.md,
section "Keys", is normative.
"""

from dataclasses import dataclass
from typing import Final

from chain.crypto import check_public_key
from chain.errors import InvalidKey, Rejection
from chain.records.keys import KEY_TABLE, KeyRecord
from chain.state import Overlay, View
from chain.types import Address, PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What a key is for: the signatures of a miner, its node, or an organisation's registrar."""

    role: str
    owner: Address


REGISTRAR: Final = "registrar"


def require_usable(key: PublicKey) -> None:
    """Refuse what is no key, or one under which anybody can sign."""
    try:
        check_public_key(key)
    except InvalidKey as error:
        raise Rejection("malformed", str(error)) from error


def require_free(view: View, key: PublicKey, use: Use | None, *, current: bytes = b"") -> None:
    """Refuse a key that somebody has, or has had, for another use.

    Parameters
    ----------
    use : Use or None
        What it is to be for; None: for a device.
    current : bytes
        The key that the owner has for this use now, which it may keep. What it had before is not
        taken back.
    """
    known = view.get(KEY_TABLE, key)
    if known is None:
        return
    # One registrar may sign for several organisations: it signs in the name of each.
    is_own = use is not None and known.owner == use.owner and key == current
    if use is not None and known.role == use.role and (is_own or use.role == REGISTRAR):
        return
    raise Rejection("already_exists", f"a {known.role} has or had the key {key.hex()}")


def claim(state: Overlay, key: PublicKey, use: Use) -> None:
    """Write down that a key is taken, unless it is."""
    if state.get(KEY_TABLE, key) is None:
        state.put(KEY_TABLE, KeyRecord(role=use.role, owner=use.owner), key)


def miner_of_key(view: View, key: PublicKey) -> Address | None:
    """Return the miner that signs, or has signed, with this key."""
    known = view.get(KEY_TABLE, key)
    return known.owner if known is not None and known.role == "miner" else None
