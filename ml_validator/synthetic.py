"""Synthetic flows in NSL-KDD's format, for demonstrations and tests.

Nothing here was recorded: each profile draws flows as public descriptions of such traffic have
them, within the meaning that NSL-KDD gives its columns (windows of two seconds, windows of the
last connections to a host); spans of normal traffic follow what KDDTrain+ has for the service.
The flows show that the machinery works; they say nothing about how well a detector does on real
traffic.

A row depends on profile, seed and position alone, on every machine and with every version of a
library: the generator behind it is written out below.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeVar

from chain.payloads import Flow
from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.nsl_kdd import Record

COUNT_MAX: Final = 1_000_000
"""Most flows of one call of `generate`."""

Item = TypeVar("Item")


class Profile(StrEnum):
    """What a device does all day."""

    TELEMETRY = "telemetry"
    BROWSING = "browsing"
    DNS = "dns"
    MAIL = "mail"
    FILES = "files"
    FLOOD = "flood"
    PROBE = "probe"
    LOGIN_GUESSING = "login-guessing"


LABELS: Final[Mapping[Profile, str]] = MappingProxyType(
    {
        Profile.TELEMETRY: "normal",
        Profile.BROWSING: "normal",
        Profile.DNS: "normal",
        Profile.MAIL: "normal",
        Profile.FILES: "normal",
        Profile.FLOOD: "neptune",
        Profile.PROBE: "portsweep",
        Profile.LOGIN_GUESSING: "guess_passwd",
    }
)
"""Label of NSL-KDD that each profile's flows carry."""

NORMAL_PROFILES: Final = tuple(p for p in Profile if LABELS[p] == "normal")
ATTACK_PROFILES: Final = tuple(p for p in Profile if LABELS[p] != "normal")


def generate(profile: Profile, count: int, seed: int) -> list[Record]:
    """Make flows of one device.

    Parameters
    ----------
    profile : Profile
        What the device does.
    count : int
        How many flows, up to `COUNT_MAX`. The flows of a smaller count are the first of a larger.
    seed : int
        One seed for each device; equal arguments give equal flows.

    Returns
    -------
    list of Record
        With difficulty 0: nobody was asked.
    """
    if not 0 <= count <= COUNT_MAX:
        raise ValueError(f"count is {count}, not 0 to {COUNT_MAX}")
    draw = _Draw(f"{profile.value}/{seed}")
    make = _MAKERS[profile]
    label = LABELS[profile]
    return [Record(flow=make(draw), label=label, difficulty=0) for _ in range(count)]


def generate_mixture(count: int, seed: int) -> list[Record]:
    """Make `count` flows of every profile, profile after profile: a small data set."""
    return [record for profile in Profile for record in generate(profile, count, seed)]


class _Draw:
    """A stream of numbers from a name: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014)."""

    _MASK: Final = 2**64 - 1

    def __init__(self, name: str) -> None:
        self._state = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")

    def between(self, low: int, high: int) -> int:
        """Draw from ``[low, high]``; the bias of the remainder is below 2**-40 at our spans."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & self._MASK
        word = self._state
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & self._MASK
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & self._MASK
        return low + (word ^ (word >> 31)) % (high - low + 1)

    def percent(self, chance: int) -> bool:
        """Return True in `chance` of 100 draws."""
        return self.between(1, 100) <= chance

    def one_of(self, items: Sequence[Item]) -> Item:
        """Draw one of `items`, each as likely as the others."""
        return items[self.between(0, len(items) - 1)]

    def size(self, low: int, high: int) -> int:
        """Draw a number of bytes, small ones far more often: half the range at each doubling."""
        spread = high - low
        for _ in range(self.between(0, 6)):
            spread //= 2
        return low + self.between(0, spread)


def _flow(protocol: str, service: str, flag: str, **values: int) -> Flow:
    """Build a flow from the columns that are not 0; rates in hundredths."""
    integers = tuple(values.pop(column.name, 0) for column in NSL_KDD_SCHEMA.integers)
    assert not values, f"no columns of the schema: {sorted(values)}"
    return Flow(
        schema=NSL_KDD_SCHEMA.digest, integers=integers, categories=(protocol, service, flag)
    )


def _share(part: int, whole: int) -> int:
    return min(100, 100 * part // max(whole, 1))


def _windows(
    draw: _Draw, *, count: tuple[int, int], host_count: tuple[int, int], same: tuple[int, int]
) -> dict[str, int]:
    """Windows of a client without errors.

    Parameters
    ----------
    draw : _Draw
        Where numbers come from.
    count, host_count : tuple of int
        Span of ``count`` and of ``dst_host_count``.
    same : tuple of int
        Span of the service's share in the last connections to the host, in percent.
    """
    here = draw.between(*count)
    last = draw.between(*host_count)
    share = draw.between(*same)
    return {
        "count": here,
        "srv_count": here,
        "same_srv_rate": 100,
        "dst_host_count": last,
        "dst_host_srv_count": max(1, last * share // 100),
        "dst_host_same_srv_rate": share,
        "dst_host_diff_srv_rate": 0 if share == 100 else draw.between(1, 8),
        "dst_host_srv_diff_host_rate": draw.between(0, 4),
    }


def _web_windows(draw: _Draw, *, count: tuple[int, int]) -> dict[str, int]:
    """Windows of HTTP: the service is in use everywhere, not at this host alone."""
    windows = _windows(draw, count=count, host_count=(1, 255), same=(100, 100))
    windows["srv_count"] += draw.between(0, 8)
    windows["srv_diff_host_rate"] = _share(
        windows["srv_count"] - windows["count"], windows["srv_count"]
    )
    windows["dst_host_srv_count"] = draw.between(max(180, windows["dst_host_count"]), 255)
    return windows


def _telemetry(draw: _Draw) -> Flow:
    """Report a measurement by HTTP to the collector; now and then ask for the time."""
    if draw.percent(15):
        return _flow(
            "udp",
            "ntp_u",
            "SF",
            src_bytes=48,
            dst_bytes=48,
            **_windows(draw, count=(1, 2), host_count=(60, 255), same=(5, 40)),
        )
    return _flow(
        "tcp",
        "http",
        "SF",
        src_bytes=draw.between(180, 380),
        dst_bytes=draw.between(240, 900),
        logged_in=1,
        **_web_windows(draw, count=(1, 4)),
    )


def _browsing(draw: _Draw) -> Flow:
    """Fetch pages and what belongs to them."""
    return _flow(
        "tcp",
        "http",
        "SF",
        duration=draw.between(1, 4) if draw.percent(6) else 0,
        src_bytes=draw.between(180, 400),
        dst_bytes=draw.size(300, 24_000),
        logged_in=1,
        **_web_windows(draw, count=(1, 24)),
    )


def _dns(draw: _Draw) -> Flow:
    """Ask a resolver for names."""
    return _flow(
        "udp",
        "domain_u",
        "SF",
        src_bytes=draw.between(36, 46),
        dst_bytes=draw.between(40, 140),
        **_windows(draw, count=(1, 200), host_count=(110, 255), same=(70, 100)),
    )


def _mail(draw: _Draw) -> Flow:
    """Hand a message to the mail server."""
    return _flow(
        "tcp",
        "smtp",
        "SF",
        duration=draw.between(0, 4),
        src_bytes=draw.size(500, 12_000),
        dst_bytes=draw.between(320, 420),
        logged_in=1,
        **_windows(draw, count=(1, 3), host_count=(30, 255), same=(30, 90)),
    )


def _files(draw: _Draw) -> Flow:
    """Fetch firmware or hand over logs by FTP: mostly data connections, some of control."""
    if draw.percent(20):
        return _flow(
            "tcp",
            "ftp",
            "SF",
            duration=draw.between(18, 34),
            src_bytes=draw.between(200, 1_500),
            dst_bytes=draw.between(700, 4_200),
            hot=draw.between(4, 30),
            logged_in=1,
            is_guest_login=1,
            **_windows(draw, count=(1, 1), host_count=(20, 255), same=(10, 45)),
        )
    windows = _windows(draw, count=(1, 12), host_count=(15, 255), same=(9, 75))
    # Data connections of active FTP all come from port 20 of the server.
    windows["dst_host_same_src_port_rate"] = windows["dst_host_same_srv_rate"]
    return _flow(
        "tcp",
        "ftp_data",
        "SF",
        src_bytes=draw.size(20, 60_000),
        logged_in=1,
        **windows,
    )


_FLOODED: Final = ("private", "http", "telnet", "smtp", "ftp", "other", "finger", "ssh")
_SCANNED: Final = (
    "private", "other", "ftp", "telnet", "ssh", "http", "smtp", "finger", "pop_3", "imap4",
    "sunrpc", "ldap", "uucp", "auth", "whois", "netbios_ssn", "domain", "exec", "login", "shell",
)  # fmt: skip
_GUESSED: Final = ("telnet", "ftp", "pop_3", "imap4", "ssh")


def _flood(draw: _Draw) -> Flow:
    """Open connections to one host and never finish one: SYN flood from one source."""
    count = draw.between(100, 511)
    srv_count = draw.between(1, 26)
    host_srv_count = draw.between(1, 26)
    refused = draw.percent(15)
    errors = "rerror" if refused else "serror"
    return _flow(
        "tcp",
        draw.one_of(_FLOODED),
        "REJ" if refused else "S0",
        count=count,
        srv_count=srv_count,
        **{f"{errors}_rate": 100, f"srv_{errors}_rate": 100},
        same_srv_rate=_share(srv_count, count),
        diff_srv_rate=draw.between(5, 8),
        dst_host_count=255,
        dst_host_srv_count=host_srv_count,
        dst_host_same_srv_rate=_share(host_srv_count, 255),
        dst_host_diff_srv_rate=draw.between(5, 8),
        **{f"dst_host_{errors}_rate": 100, f"dst_host_srv_{errors}_rate": 100},
    )


def _probe(draw: _Draw) -> Flow:
    """Try one port after another: most are closed or silent, a few answer."""
    flag = draw.one_of(("REJ", "REJ", "REJ", "S0", "RSTR", "RSTR", "SF"))
    refused = draw.between(70, 100)
    own = {"REJ": "rerror", "RSTR": "rerror", "S0": "serror"}.get(flag)
    count = draw.between(1, 12)
    return _flow(
        "tcp",
        draw.one_of(_SCANNED),
        flag,
        src_bytes=draw.between(0, 20) if flag == "SF" else 0,
        count=count,
        srv_count=1,
        rerror_rate=refused,
        serror_rate=100 - refused,
        **({f"srv_{own}_rate": 100} if own else {}),
        same_srv_rate=_share(1, count),
        diff_srv_rate=_share(count - 1, count),
        dst_host_count=draw.between(120, 255),
        dst_host_srv_count=draw.between(1, 4),
        dst_host_same_srv_rate=draw.between(0, 2),
        dst_host_diff_srv_rate=draw.between(50, 100),
        dst_host_same_src_port_rate=draw.between(0, 100),
        dst_host_rerror_rate=refused,
        dst_host_serror_rate=100 - refused,
        **({f"dst_host_srv_{own}_rate": 100} if own else {}),
    )


def _login_guessing(draw: _Draw) -> Flow:
    """Try password after password; the server closes the connection after some failures."""
    cut_off = draw.percent(45)
    attempts = draw.between(1, 4)
    host_count = draw.between(1, 255)
    return _flow(
        "tcp",
        draw.one_of(_GUESSED),
        "RSTO" if cut_off else "SF",
        duration=draw.between(1, 5),
        src_bytes=draw.between(100, 150),
        dst_bytes=draw.between(170, 240),
        hot=draw.between(0, 1),
        num_failed_logins=attempts,
        count=draw.between(1, 3),
        srv_count=draw.between(1, 3),
        rerror_rate=100 if cut_off else 0,
        srv_rerror_rate=100 if cut_off else 0,
        same_srv_rate=100,
        dst_host_count=host_count,
        dst_host_srv_count=min(host_count, draw.between(1, 30)),
        dst_host_same_srv_rate=draw.between(2, 100),
        dst_host_diff_srv_rate=draw.between(0, 8),
        dst_host_rerror_rate=draw.between(20, 100),
        dst_host_srv_rerror_rate=draw.between(20, 100),
    )


_MAKERS: Final[Mapping[Profile, Callable[[_Draw], Flow]]] = MappingProxyType(
    {
        Profile.TELEMETRY: _telemetry,
        Profile.BROWSING: _browsing,
        Profile.DNS: _dns,
        Profile.MAIL: _mail,
        Profile.FILES: _files,
        Profile.FLOOD: _flood,
        Profile.PROBE: _probe,
        Profile.LOGIN_GUESSING: _login_guessing,
    }
)
