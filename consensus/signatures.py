"""Whether a message is by the member in whose name it comes."""

from chain.miners import MinerSet
from consensus.errors import BadSignature, OtherKey
from consensus.height import HeightState
from consensus.messages import Message, is_signed_by


def is_signed(message: Message, state: HeightState, *, by: MinerSet | None = None) -> bool:
    """Tell whether a member of this height, or of the set `by`, has signed a message."""
    member = (by or state.config.miners).get(message.sender)
    return member is not None and is_signed_by(
        message, member.key, state.config.genesis_hash, state.verifier
    )


def check_signature(message: Message, state: HeightState) -> None:
    """Raise `BadSignature` where no member of this height has signed a message of it."""
    if not is_signed(message, state):
        raise BadSignature(message.sender, "not signed by its sender")


def is_of_member(message: Message, state: HeightState) -> bool:
    """Tell whether a member has signed a message of another height, as far as its set is known.

    That of the next height is; for those behind it, it is the best guess, as the present one is for
    those that are past.

    Raises
    ------
    OtherKey
        It is in a member's name, and not signed by the key that the member has in that set.
    """
    config = state.config
    miners = config.next_miners if message.height > config.height else config.miners
    if message.sender not in miners:
        return False
    if not is_signed(message, state, by=miners):
        raise OtherKey(message.sender, "not signed by its sender, as far as its keys are known")
    return True
