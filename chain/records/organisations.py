"""What the state holds of organisations."""

from dataclasses import dataclass
from typing import Final

from chain.fields import ANY_KEY, NAME
from chain.limits import Limits, RateLimits
from chain.schema import Boolean, Integer, Record
from chain.table import Table
from chain.types import PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganisationRecord:
    """An organisation that owns devices.

    Parameters
    ----------
    registrar_key : PublicKey
        Signs in the organisation's name.
    limits : RateLimits
        What all its devices may send together.
    device_count, model_count : int
        What it has registered so far, revoked devices included.
    """

    name: str
    registrar_key: PublicKey
    limits: RateLimits
    active: bool
    device_count: int
    model_count: int


ORGANISATION_TABLE: Final = Table(
    b"organisation/",
    Record(
        OrganisationRecord,
        name=NAME,
        registrar_key=ANY_KEY,
        limits=Limits(),
        active=Boolean(),
        device_count=Integer(),
        model_count=Integer(),
    ),
)
