"""What captures and logs are boiled down to before they become flows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

CONNECTIONS_MAX: Final = 1_000_000
"""Connections of one file, which are all kept in memory; a file with more is refused."""

Protocol = Literal["icmp", "tcp", "udp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One connection; of UDP what goes between two ports, of ICMP a message.

    Parameters
    ----------
    start_us, duration_us : int
        Microseconds, the first since 1970.
    source, destination : str
        Addresses of who began, and of the other.
    source_port, destination_port : int
        Of ICMP type and code, as Zeek has it.
    service, flag : str
        As NSL-KDD names them.
    src_bytes, dst_bytes : int
        Payload that each side sent.
    wrong_fragment, urgent : int
        Fragments that cannot be right, and packets with the urgent flag; 0 where nobody counts.
    """

    start_us: int
    duration_us: int
    protocol: Protocol
    source: str
    source_port: int
    destination: str
    destination_port: int
    service: str
    flag: str
    src_bytes: int
    dst_bytes: int
    wrong_fragment: int = 0
    urgent: int = 0

    @property
    def is_land(self) -> bool:
        """Whether it claims to come from where it goes to."""
        return (
            self.protocol != "icmp"
            and self.source == self.destination
            and self.source_port == self.destination_port
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The connections of a file, and what is not in them.

    Parameters
    ----------
    skipped : Counter of str
        Rows or packets of which no connection was made, by the reason.
    missing : Counter of str
        Values that the file does not have and that count as 0, by their name there.
    not_computable : tuple of str
        Features that this kind of file cannot show, beyond those that none can.
    """

    connections: Sequence[Connection]
    skipped: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    not_computable: tuple[str, ...] = ()
