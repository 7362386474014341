"""`param.change`: the miners change a parameter of the chain."""

from dataclasses import dataclass, replace
from typing import Final

from chain.blocks import Event
from chain.errors import DecodeError, Rejection
from chain.governance import open_proposal
from chain.kinds.base import BlockContext, Kind, Lane, Signer, require
from chain.parameters import CHANGEABLE, PARAMETERS, PARAMETERS_TABLE, Parameters, check_parameters
from chain.schema import Record, Text
from chain.state import View, parameters_of
from chain.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterChange:
    """Proposes a value, in text, for a parameter: a decimal integer, or rate limits."""

    name: str
    value: str


def changed(parameters: Parameters, name: str, text: str) -> Parameters:
    """Return `parameters` with one of them set from its text.

    Raises
    ------
    Rejection
        No such parameter, or a value out of its bounds or at odds with the others.
    """
    require(name in CHANGEABLE, "not_found", f"there is no parameter {name[:40]} to change")
    value: object = text
    if isinstance(getattr(parameters, name), int):
        digits = text.isascii() and text.isdigit() and len(text) <= 18
        require(digits, "malformed", f"{name} is a decimal integer")
        value = int(text)
    try:
        after = replace(parameters, **{name: PARAMETERS.fields[name].parse(value, name)})
        check_parameters(after)
    except DecodeError as error:
        raise Rejection("malformed", str(error)) from error
    return after


def _check(body: ParameterChange, view: View, block: BlockContext) -> None:
    del block
    changed(parameters_of(view), body.name, body.value)


def _enact(body: ParameterChange, block: BlockContext) -> tuple[Event, ...]:
    before = parameters_of(block.state)
    after = changed(before, body.name, body.value)
    if after.transaction_lifetime_ms > before.transaction_lifetime_ms:
        # What was too old before stays too old: its id may have left the look-back.
        floor = max(before.lifetime_floor_ms, block.time_ms - before.transaction_lifetime_ms)
        after = replace(after, lifetime_floor_ms=floor)
    block.state.put(PARAMETERS_TABLE, after)
    return (Event(name="parameter_changed", values=(body.name, body.value)),)


def _propose(
    body: ParameterChange, transaction: Transaction, block: BlockContext
) -> tuple[Event, ...]:
    return open_proposal(KIND, body, transaction, block)


KIND: Final = Kind(
    name="param.change",
    signer=Signer.MINER,
    lane=Lane.GOVERNANCE,
    body=Record(ParameterChange, name=Text(64, minimum=1), value=Text(96)),
    apply=_propose,
    check=_check,
    enact=_enact,
)
