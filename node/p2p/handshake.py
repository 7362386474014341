"""The hello that both ends exchange inside the channel, without any socket.

The channel is TLS 1.3 with both keys proven and pinned (node/p2p/tls.py), so a hello needs no
signature of its own: nothing in it can be relayed, replayed or altered by a third party. It binds
the session to the protocol version, the chain, both nodes and the direction. Every byte of it is
determined by what the receiver already knows, so that the check is an equality and the fields only
serve to name what differs. docs/spec/p2p.md, "Handshake".
"""

from enum import IntEnum
from struct import Struct
from typing import Final

from chain.types import Address, Digest
from node.p2p.errors import (
    GOODBYE_CODES,
    MalformedHello,
    Reason,
    RefusedByPeer,
    WrongGenesis,
    WrongPeer,
    WrongVersion,
)

PROTOCOL_VERSION: Final = 1
HELLO_TAG: Final = b"securenet/p2p-hello/v1"

HELLO: Final = 0
PING: Final = 1
PONG: Final = 2
GOODBYE: Final = 3
OWN_KINDS_END: Final = 4
"""Kinds below this belong to the transport; those of the node start here."""

_LAYOUT: Final = Struct(f">{len(HELLO_TAG)}sHB32s32s32s")
HELLO_SIZE: Final = _LAYOUT.size
HANDSHAKE_LIMITS: Final = {HELLO: HELLO_SIZE, GOODBYE: 1}
"""What is accepted before a session stands."""


class Role(IntEnum):
    """The end of a connection; its value is on the wire."""

    DIALLER = 0
    LISTENER = 1

    @property
    def other(self) -> "Role":
        """The role of the other end."""
        return Role.LISTENER if self is Role.DIALLER else Role.DIALLER


class Handshake:
    """One end's view of the exchange: the dialler's hello first, the listener's as the answer.

    Parameters
    ----------
    role : Role
        This end.
    genesis_hash : Digest
        The chain that this node belongs to.
    local, peer : Address
        This node, and the one whose key the channel has proven.
    """

    __slots__ = ("_genesis_hash", "_local", "_peer", "_role", "done")

    def __init__(self, *, role: Role, genesis_hash: Digest, local: Address, peer: Address) -> None:
        self._role = role
        self._genesis_hash = genesis_hash
        self._local = local
        self._peer = peer
        self.done = False

    def hello(self) -> bytes:
        """Return the payload of this end's hello."""
        return _LAYOUT.pack(
            HELLO_TAG, PROTOCOL_VERSION, self._role, self._genesis_hash, self._local, self._peer
        )

    def receive(self, kind: int, payload: bytes) -> None:
        """Judge the first message of the other end; `done` is True afterwards.

        Raises
        ------
        node.p2p.errors.HandshakeError
            It is not the one hello that makes a session; the leaf says what differs.
        """
        if kind == GOODBYE and len(payload) == 1:
            raise RefusedByPeer(payload[0])
        if self.done or kind != HELLO or len(payload) != HELLO_SIZE:
            raise MalformedHello(f"kind {kind}, {len(payload)} bytes")
        tag, version, role, genesis_hash, sender, recipient = _LAYOUT.unpack(payload)
        if tag != HELLO_TAG:
            raise MalformedHello("not the tag of a hello")
        if version != PROTOCOL_VERSION:
            raise WrongVersion(f"the peer speaks {version}, this node {PROTOCOL_VERSION}")
        if genesis_hash != self._genesis_hash:
            raise WrongGenesis(f"the peer's chain is {genesis_hash.hex()}")
        if role != self._role.other or sender != self._peer or recipient != self._local:
            raise WrongPeer(f"from {sender.hex()} to {recipient.hex()}, role {role}")
        self.done = True


def goodbye(reason: Reason) -> bytes:
    """Return the payload of a goodbye; what a peer need not know is told as `closed`."""
    return bytes((GOODBYE_CODES.index(reason) if reason in GOODBYE_CODES else 0,))
