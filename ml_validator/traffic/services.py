"""Services and states of connections by the names that NSL-KDD has for them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.traffic.connections import Protocol

OTHER: Final = "other"
PRIVATE: Final = "private"
PRIVATE_PORT_MIN: Final = 49_152
"""Ports from here on are for private use (RFC 6335)."""

FINISHED: Final = "SF"
"""The flag of a connection that began and ended well, and of all that is not TCP."""
UNKNOWN_STATE: Final = "OTH"
FLAGS: Final = frozenset(NSL_KDD_SCHEMA.categories[2].values)

_TCP: Final[Mapping[int, str]] = MappingProxyType(
    {
        7: "echo", 9: "discard", 11: "systat", 13: "daytime", 15: "netstat", 20: "ftp_data",
        21: "ftp", 22: "ssh", 23: "telnet", 25: "smtp", 37: "time", 42: "name", 43: "whois",
        53: "domain", 57: "mtp", 70: "gopher", 71: "remote_job", 77: "rje", 79: "finger",
        80: "http", 84: "ctf", 87: "link", 95: "supdup", 101: "hostnames", 102: "iso_tsap",
        105: "csnet_ns", 109: "pop_2", 110: "pop_3", 111: "sunrpc", 113: "auth", 117: "uucp_path",
        119: "nntp", 137: "netbios_ns", 138: "netbios_dgm", 139: "netbios_ssn", 143: "imap4",
        150: "sql_net", 175: "vmnet", 179: "bgp", 194: "IRC", 210: "Z39_50", 389: "ldap",
        433: "nnsp", 443: "http_443", 512: "exec", 513: "login", 514: "shell", 515: "printer",
        520: "efs", 530: "courier", 540: "uucp", 543: "klogin", 544: "kshell", 2784: "http_2784",
        5190: "aol", 6667: "IRC", 8001: "http_8001", **dict.fromkeys(range(6000, 6064), "X11"),
    }
)  # fmt: skip
_UDP: Final[Mapping[int, str]] = MappingProxyType({53: "domain_u", 69: "tftp_u", 123: "ntp_u"})
_ICMP: Final[Mapping[tuple[int, int], str]] = MappingProxyType({(3, 1): "urh_i", (3, 3): "urp_i"})
_ICMP_TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {0: "ecr_i", 5: "red_i", 8: "eco_i", 11: "tim_i"}
)
_ICMP6: Final[Mapping[tuple[int, int], str]] = MappingProxyType({(1, 3): "urh_i", (1, 4): "urp_i"})
_ICMP6_TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {3: "tim_i", 128: "eco_i", 129: "ecr_i", 137: "red_i"}
)
_ZEEK: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ftp": "ftp", "ftp-data": "ftp_data", "http": "http", "ident": "auth", "imap": "imap4",
        "irc": "IRC", "ldap_tcp": "ldap", "ntp": "ntp_u", "pop3": "pop_3", "smtp": "smtp",
        "ssh": "ssh", "tftp": "tftp_u",
    }
)  # fmt: skip
"""Services as Zeek finds them in the bytes, whatever the port."""


def service_of_port(protocol: Protocol, port: int) -> str:
    """Return the service at a port of TCP or UDP.

    Notes
    -----
    NSL-KDD has ``private`` and ``other`` for ports without a name and does not say how it parts
    them. Here the first is the range for private use.
    """
    named = (_TCP if protocol == "tcp" else _UDP).get(port)
    if named is not None:
        return named
    return PRIVATE if port >= PRIVATE_PORT_MIN else OTHER


def service_of_message(kind: int, code: int, *, is_v6: bool) -> str:
    """Return the service that NSL-KDD makes of a type and code of ICMP."""
    pairs, kinds = (_ICMP6, _ICMP6_TYPES) if is_v6 else (_ICMP, _ICMP_TYPES)
    return pairs.get((kind, code)) or kinds.get(kind, OTHER)


def service_of_zeek(names: str, protocol: Protocol, port: int) -> str:
    """Return the service that Zeek has found, or else that of the port.

    Parameters
    ----------
    names : str
        The field ``service``: names parted by commas, those taken back with a minus before them.
    """
    for name in names.split(","):
        if name == "dns":
            return "domain_u" if protocol == "udp" else "domain"
        if found := _ZEEK.get(name):
            return found
    return service_of_port(protocol, port)


def flag_of_zeek(state: str) -> str:
    """Return NSL-KDD's flag for a ``conn_state``; it has none for two, where no SYN was seen."""
    return state if state in FLAGS else UNKNOWN_STATE
