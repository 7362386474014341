"""What the state holds of devices: the registry."""

from dataclasses import dataclass
from typing import Final

from chain.fields import ADDRESS, ANY_KEY, HEIGHT, NAME, UNTIL_MS
from chain.limits import Limits, RateLimits
from chain.schema import ListOf, Optional, Record, Word
from chain.table import Table
from chain.types import Address, Height, PublicKey

ROLES_MAX: Final = 4
ROLES: Final = ("sensor", "gateway", "participant")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """A registered device.

    Parameters
    ----------
    gateway : Address or None
        The device through which it sends; the gateway's limits hold for all behind it together.
    status : {"active", "suspended", "quarantined", "revoked"}
        As it was last set; a quarantine ends by itself at `quarantined_until_ms`.
    limited_until_ms : int
        Before this block time the limits of its organisation's policy hold for it as well.
    """

    organisation: Address
    name: str
    key: PublicKey
    roles: tuple[str, ...]
    gateway: Address | None
    limits: RateLimits
    status: str
    quarantined_until_ms: int
    limited_until_ms: int
    registered_height: Height
    key_height: Height

    def is_active(self, time_ms: int) -> bool:
        """Tell whether it may send at block time `time_ms`."""
        return self.status == "active" or (
            self.status == "quarantined" and time_ms >= self.quarantined_until_ms
        )

    def is_limited(self, time_ms: int) -> bool:
        """Tell whether the limits of the policy hold for it at block time `time_ms`."""
        return time_ms < self.limited_until_ms


ROLE_LIST: Final = ListOf(Word(*ROLES), ROLES_MAX)
DEVICE_TABLE: Final = Table(
    b"device/",
    Record(
        DeviceRecord,
        organisation=ADDRESS,
        name=NAME,
        key=ANY_KEY,
        roles=ROLE_LIST,
        gateway=Optional(ADDRESS),
        limits=Limits(),
        status=Word("active", "suspended", "quarantined", "revoked"),
        quarantined_until_ms=UNTIL_MS,
        limited_until_ms=UNTIL_MS,
        registered_height=HEIGHT,
        key_height=HEIGHT,
    ),
)
