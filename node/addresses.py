"""Network addresses: which is this machine, and what of one a client has only one of."""

import ipaddress
from typing import Final

_IPV6_SITE: Final = 64
"""Bits of an IPv6 address that a client chooses freely."""


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def accountable(host: str) -> str:
    """Return what of an address costs something to have many of; of what is none, itself."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, ipaddress.IPv6Address):
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(int(address) >> _IPV6_SITE)
