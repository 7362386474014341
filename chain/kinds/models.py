"""`model.register` and `model.activate`: which model judges, from which height on."""

from dataclasses import dataclass, replace
from typing import Final

from chain.blocks import Event
from chain.fields import DIGEST, NAME
from chain.governance import open_proposal
from chain.kinds.base import BlockContext, Kind, Lane, Signer, require
from chain.parameters import VERDICT_WINDOW
from chain.records.models import (
    ACTIVE_MODELS,
    MODEL_HISTORY_MAX,
    MODEL_TABLE,
    Activation,
    ActiveModels,
    ModelRecord,
)
from chain.records.organisations import ORGANISATION_TABLE
from chain.schema import Integer, Record
from chain.state import View
from chain.transactions import Transaction
from chain.types import Digest, Height

MODELS_PER_ORGANISATION_MAX: Final = 1_000
ACTIVATION_DELAY: Final = 2
"""Heights between the deciding vote and the first block that the model judges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRegister:
    """Registers a model by its digest."""

    model: Digest
    name: str
    schema: Digest
    threshold_ppm: int
    size_bytes: int
    manifest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelActivate:
    """Proposes that a registered model judges."""

    model: Digest


def _register(
    body: ModelRegister, transaction: Transaction, block: BlockContext
) -> tuple[Event, ...]:
    organisation_id = transaction.payload.sender
    organisation = block.state.get(ORGANISATION_TABLE, organisation_id)
    assert organisation is not None, "the registrar's key was found there"
    require(
        organisation.model_count < MODELS_PER_ORGANISATION_MAX,
        "limit_reached",
        f"the organisation has {organisation.model_count} models",
    )
    require(
        block.state.get(MODEL_TABLE, body.model) is None,
        "already_exists",
        f"model {body.model.hex()} is registered",
    )
    record = ModelRecord(
        name=body.name,
        schema=body.schema,
        threshold_ppm=body.threshold_ppm,
        size_bytes=body.size_bytes,
        manifest=body.manifest,
        organisation=organisation_id,
        registered_height=block.height,
    )
    block.state.put(MODEL_TABLE, record, body.model)
    block.state.put(
        ORGANISATION_TABLE,
        replace(organisation, model_count=organisation.model_count + 1),
        organisation_id,
    )
    return (Event(name="model_registered", values=(body.model.hex(),)),)


def _check(body: ModelActivate, view: View, block: BlockContext) -> None:
    del block
    require(
        view.get(MODEL_TABLE, body.model) is not None,
        "not_found",
        f"there is no model {body.model.hex()}",
    )
    history = _history(view)
    require(
        not history or history[-1].model != body.model,
        "already_exists",
        "the model is active, or will be",
    )


def _must_wait(body: ModelActivate, block: BlockContext) -> bool:
    """Tell whether an activation is not in effect yet, or there are too many to take another."""
    del body
    history = _history(block.state)
    if not history:
        return False
    is_pending = history[-1].from_height > block.height
    # The oldest is forgotten then, and no flow that may still be judged must fall under it.
    is_full = len(history) == MODEL_HISTORY_MAX
    return is_pending or (is_full and history[1].from_height >= block.height - VERDICT_WINDOW)


def _enact(body: ModelActivate, block: BlockContext) -> tuple[Event, ...]:
    activation = Activation(from_height=Height(block.height + ACTIVATION_DELAY), model=body.model)
    history = (*_history(block.state), activation)[-MODEL_HISTORY_MAX:]
    block.state.put(ACTIVE_MODELS, ActiveModels(activations=history))
    values = (body.model.hex(), str(activation.from_height))
    return (Event(name="model_activated", values=values),)


def _history(view: View) -> tuple[Activation, ...]:
    models = view.get(ACTIVE_MODELS)
    return () if models is None else models.activations


def _propose(
    body: ModelActivate, transaction: Transaction, block: BlockContext
) -> tuple[Event, ...]:
    return open_proposal(ACTIVATE, body, transaction, block)


REGISTER: Final = Kind(
    name="model.register",
    signer=Signer.REGISTRAR,
    lane=Lane.REGISTRY,
    body=Record(
        ModelRegister,
        model=DIGEST,
        name=NAME,
        schema=DIGEST,
        threshold_ppm=Integer(0, 1_000_001),
        size_bytes=Integer(1, 2**32),
        manifest=DIGEST,
    ),
    apply=_register,
)
ACTIVATE: Final = Kind(
    name="model.activate",
    signer=Signer.MINER,
    lane=Lane.GOVERNANCE,
    body=Record(ModelActivate, model=DIGEST),
    apply=_propose,
    check=_check,
    must_wait=_must_wait,
    enact=_enact,
)
