"""What goes wrong between two nodes.

::

    NodeError                    node.errors
    └── P2PError                 carries `reason`, the word it is counted under
        ├── FrameError           bytes that are no frame this side accepts; costs the peer points
        │   ├── UnknownKind
        │   ├── PayloadTooLarge
        │   └── MalformedFrame
        └── HandshakeError       no session comes of this connection
            ├── UnknownKey       the key is not in the directory
            ├── Banned           the peer is kept away for a while
            ├── Duplicate        a session with the peer stands, or a better one is coming
            ├── MalformedHello
            ├── WrongVersion
            ├── WrongGenesis
            ├── WrongPeer        the hello names other nodes or another role than the channel
            └── RefusedByPeer    the other side said goodbye
"""

from enum import StrEnum
from typing import ClassVar

from node.errors import NodeError


class Reason(StrEnum):
    """Why a connection was refused or ended: the closed set of words in counters and logs."""

    BANNED = "banned"
    CLOSED = "closed"
    DUPLICATE = "duplicate"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    IDLE = "idle"
    MALFORMED_FRAME = "malformed_frame"
    MALFORMED_HELLO = "malformed_hello"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    REFUSED_BY_PEER = "refused_by_peer"
    SHUTDOWN = "shutdown"
    STALLED = "stalled"
    TLS = "tls"
    TOO_FREQUENT = "too_frequent"
    TOO_MANY = "too_many"
    TOO_MANY_FROM_ADDRESS = "too_many_from_address"
    UNKNOWN_KEY = "unknown_key"
    UNKNOWN_KIND = "unknown_kind"
    UNREACHABLE = "unreachable"
    WRONG_GENESIS = "wrong_genesis"
    WRONG_PEER = "wrong_peer"
    WRONG_VERSION = "wrong_version"


GOODBYE_CODES: tuple[Reason, ...] = (
    Reason.CLOSED,
    Reason.DUPLICATE,
    Reason.BANNED,
    Reason.UNKNOWN_KEY,
    Reason.MALFORMED_HELLO,
    Reason.WRONG_VERSION,
    Reason.WRONG_GENESIS,
    Reason.WRONG_PEER,
    Reason.MALFORMED_FRAME,
    Reason.UNKNOWN_KIND,
    Reason.PAYLOAD_TOO_LARGE,
    Reason.SHUTDOWN,
)
"""A goodbye carries the index of its reason in this tuple; the order is part of the protocol."""


class P2PError(NodeError):
    """A mistake of a peer, or of the way to it."""

    reason: ClassVar[Reason] = Reason.CLOSED


class FrameError(P2PError):
    """Bytes which are no frame that this side accepts.

    Parameters
    ----------
    kind : int
        The kind that the header names.
    size : int
        The payload size that the header names.
    """

    def __init__(self, kind: int, size: int) -> None:
        super().__init__(f"{self.reason}: kind {kind}, {size} bytes")
        self.kind = kind
        self.size = size


class UnknownKind(FrameError):
    """A kind that this node does not speak, or not in this state of the connection."""

    reason = Reason.UNKNOWN_KIND


class PayloadTooLarge(FrameError):
    """A message above the limit of its kind."""

    reason = Reason.PAYLOAD_TOO_LARGE


class MalformedFrame(FrameError):
    """A header or a sequence of fragments that no encoder of ours makes."""

    reason = Reason.MALFORMED_FRAME


class HandshakeError(P2PError):
    """A connection that becomes no session."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"{self.reason}: {detail}")


class UnknownKey(HandshakeError):
    """The channel's key is not in the directory."""

    reason = Reason.UNKNOWN_KEY


class Banned(HandshakeError):
    """The peer lost too many points lately."""

    reason = Reason.BANNED


class Duplicate(HandshakeError):
    """There is one session for each pair of nodes, and it is not this one."""

    reason = Reason.DUPLICATE


class MalformedHello(HandshakeError):
    """The first message is no hello."""

    reason = Reason.MALFORMED_HELLO


class WrongVersion(HandshakeError):
    """The peer speaks another version of the protocol."""

    reason = Reason.WRONG_VERSION


class WrongGenesis(HandshakeError):
    """The peer belongs to another chain."""

    reason = Reason.WRONG_GENESIS


class WrongPeer(HandshakeError):
    """The hello speaks of other nodes, or another role, than those of the channel."""

    reason = Reason.WRONG_PEER


class RefusedByPeer(HandshakeError):
    """The other side said goodbye instead of hello.

    Parameters
    ----------
    code : int
        The goodbye's code, an index into `GOODBYE_CODES`; a later version may know more of them.
    """

    reason = Reason.REFUSED_BY_PEER

    def __init__(self, code: int) -> None:
        self.told = GOODBYE_CODES[code] if code < len(GOODBYE_CODES) else Reason.CLOSED
        super().__init__(f"{self.told} (code {code})")
