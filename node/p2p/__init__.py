"""Authenticated sessions between nodes, and nothing of what they talk about.

:class:`TlsTransport` implements :class:`node.ports.Transport` over mutual TLS 1.3 with pinned keys.
Framing, handshake, schedule of dialling and scores are free of sockets. docs/spec/p2p.md
"""

from node.p2p.errors import P2PError, Reason
from node.p2p.handshake import OWN_KINDS_END, PROTOCOL_VERSION
from node.p2p.limits import URGENT_KINDS_END, KindPolicy, KindTable, P2PLimits
from node.p2p.peers import PeerDirectory, PeerEntry
from node.p2p.stats import TransportStats
from node.p2p.transport import TlsTransport

__all__ = [
    "OWN_KINDS_END",
    "PROTOCOL_VERSION",
    "URGENT_KINDS_END",
    "KindPolicy",
    "KindTable",
    "P2PError",
    "P2PLimits",
    "PeerDirectory",
    "PeerEntry",
    "Reason",
    "TlsTransport",
    "TransportStats",
]
