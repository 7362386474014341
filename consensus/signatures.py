"""Whether a message is by the member in whose name it comes."""

from consensus.errors import BadSignature
from consensus.height import HeightState
from consensus.messages import Message, is_signed_by


def is_signed(message: Message, state: HeightState) -> bool:
    """Tell whether a member of this height has signed a message of this height."""
    member = state.config.miners.get(message.sender)
    return member is not None and is_signed_by(
        message, member.key, state.config.genesis_hash, state.verifier
    )


def check_signature(message: Message, state: HeightState) -> None:
    """Raise `BadSignature` where a message is not signed by its sender."""
    if not is_signed(message, state):
        raise BadSignature(message.sender, "not signed by its sender")


def is_of_member(message: Message, state: HeightState) -> bool:
    """Tell whether a member of this height has signed a message of another height.

    Raises
    ------
    BadSignature
        It is in a member's name and forged, at whatever height: a miner's id is the digest of its
        key, and no honest peer passes on what it has not verified.
    """
    if message.sender not in state.config.miners:
        return False
    check_signature(message, state)
    return True
