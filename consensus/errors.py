"""Errors of agreement: the consensus branch of the tree in :mod:`chain.errors`.

::

    ConsensusError
    ├── InvalidMessage         a message no honest member sends; the driver drops and counts it
    │   ├── NotAMember         its sender has no vote at this height
    │   ├── BadSignature       its sender did not sign it
    │   │   └── OtherKey       of another height, where its sender may have another key
    │   ├── Unjustified        a ROUND-CHANGE or PRE-PREPARE that its certificates do not support
    │   └── UntimelyProposal   a fresh block whose time is too far from this miner's clock
    └── SafetyViolation        more than f members are faulty, or this node is; it has to stop
"""

from chain.errors import SecureNetError
from chain.types import Address


class ConsensusError(SecureNetError):
    """Something that agreement refuses or cannot explain."""


class InvalidMessage(ConsensusError):
    """A message that breaks a rule; nothing of it was kept.

    Parameters
    ----------
    sender : Address
        The miner named in the message; anybody may have named it, for the form is judged first.
    reason : str
        The rule, in words.
    """

    code = "invalid_message"
    """A stable word, for counters."""

    def __init__(self, sender: Address, reason: str) -> None:
        super().__init__(f"message of miner {sender.hex()[:12]}: {reason}")
        self.sender = sender
        self.reason = reason


class NotAMember(InvalidMessage):
    """Its sender is not in the miner set of the height."""

    code = "not_a_member"


class BadSignature(InvalidMessage):
    """Its signature is not by the key of the sender."""

    code = "bad_signature"


class OtherKey(BadSignature):
    """A message of another height is not signed by the key that is known of its sender.

    No proof of a fault: keys are replaced (docs/adr/0015), and those of all heights are not known.
    """

    code = "other_key"


class Unjustified(InvalidMessage):
    """Its ROUND-CHANGEs or certificate do not support what it claims."""

    code = "unjustified"


class UntimelyProposal(InvalidMessage):
    """The time of a fresh block is outside what this miner's clock allows.

    No proof of a fault: either clock may be wrong, or the message was slow.
    """

    code = "untimely_proposal"


class SafetyViolation(ConsensusError):
    """A quorum committed what an honest quorum cannot; the node stops rather than to go on."""
