"""`organisation.change`: the miners admit an organisation, change it or close it."""

from dataclasses import dataclass, replace
from typing import Final

from chain.blocks import Event
from chain.crypto import tagged_hash
from chain.fields import ANY_KEY, NAME
from chain.governance import open_proposal
from chain.key_registry import REGISTRAR, Use, claim, require_free, require_usable
from chain.kinds.base import BlockContext, Kind, Lane, Signer
from chain.limits import Limits, RateLimits
from chain.records.organisations import ORGANISATION_TABLE, OrganisationRecord
from chain.schema import Boolean, Record
from chain.state import View
from chain.transactions import Transaction
from chain.types import Address, PublicKey

_ORGANISATION_TAG: Final = b"securenet/organisation-id/v1"


def organisation_id(name: str) -> Address:
    """Return the permanent id of the organisation called `name`."""
    return Address(tagged_hash(_ORGANISATION_TAG, name.encode()))


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganisationChange:
    """Proposes an organisation as it shall be; a new name is a new organisation."""

    name: str
    registrar_key: PublicKey
    limits: RateLimits
    active: bool


def _use(name: str) -> Use:
    return Use(role=REGISTRAR, owner=organisation_id(name))


def _check(body: OrganisationChange, view: View, block: BlockContext) -> None:
    del block
    require_usable(body.registrar_key)
    require_free(view, body.registrar_key, _use(body.name))


def _enact(body: OrganisationChange, block: BlockContext) -> tuple[Event, ...]:
    id = organisation_id(body.name)
    known = block.state.get(ORGANISATION_TABLE, id)
    if known is None:
        record = OrganisationRecord(
            name=body.name,
            registrar_key=body.registrar_key,
            limits=body.limits,
            active=body.active,
            device_count=0,
            model_count=0,
        )
    else:
        record = replace(
            known, registrar_key=body.registrar_key, limits=body.limits, active=body.active
        )
    block.state.put(ORGANISATION_TABLE, record, id)
    claim(block.state, body.registrar_key, _use(body.name))
    return (Event(name="organisation_changed", values=(id.hex(), body.name)),)


def _propose(
    body: OrganisationChange, transaction: Transaction, block: BlockContext
) -> tuple[Event, ...]:
    return open_proposal(KIND, body, transaction, block)


KIND: Final = Kind(
    name="organisation.change",
    signer=Signer.MINER,
    lane=Lane.GOVERNANCE,
    body=Record(
        OrganisationChange,
        name=NAME,
        registrar_key=ANY_KEY,
        limits=Limits(),
        active=Boolean(),
    ),
    apply=_propose,
    check=_check,
    enact=_enact,
)
