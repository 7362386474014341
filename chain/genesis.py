"""The genesis document: what a chain starts from, and its identity.

The document is JSON for people; the genesis hash is over the canonical bytes of what it says.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from chain.blocks import BLOCK_VERSION, Header
from chain.crypto import address_of, check_public_key, tagged_hash
from chain.errors import DecodeError, InvalidGenesis, InvalidKey
from chain.fields import ANY_KEY, HOST, MINER_KEY, NAME
from chain.key_registry import REGISTRAR, Use, claim
from chain.kinds.models import REGISTER, ModelRegister
from chain.kinds.organisations import organisation_id
from chain.limits import Limits, RateLimits
from chain.merkle import merkle_root
from chain.miners import MINERS_MAX, Miner, MinerSet
from chain.parameters import PARAMETERS, PARAMETERS_TABLE, Parameters, check_parameters
from chain.records.miners import MINER_SETS, MINER_TABLE, MinerRecord, MinerSets
from chain.records.models import ACTIVE_MODELS, MODEL_TABLE, Activation, ActiveModels, ModelRecord
from chain.records.organisations import ORGANISATION_TABLE, OrganisationRecord
from chain.schema import Integer, ListOf, Optional, Record
from chain.state import MemorySource, Overlay, State
from chain.types import (
    TIME_MS_MAX,
    ZERO_DIGEST,
    Address,
    Digest,
    Height,
    PublicKey,
    Round,
    TimestampMs,
)

ORGANISATIONS_MAX: Final = 1_000
GENESIS_SIZE_MAX: Final = 8 * 1024 * 1024
"""More than the document with the most miners and organisations has bytes."""
_GENESIS_TAG: Final = b"securenet/genesis/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class GenesisMiner:
    """A first miner."""

    name: str
    key: PublicKey
    node_key: PublicKey
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GenesisOrganisation:
    """A first organisation."""

    name: str
    registrar_key: PublicKey
    limits: RateLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Genesis:
    """What every node of a chain starts from.

    Parameters
    ----------
    model : ModelRegister or None
        The model that judges from height 1 on; None for a chain without detectors at first.
    """

    chain: str
    time_ms: TimestampMs
    miners: tuple[GenesisMiner, ...]
    organisations: tuple[GenesisOrganisation, ...]
    parameters: Parameters
    model: ModelRegister | None
    hash: Digest = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hash", tagged_hash(_GENESIS_TAG, GENESIS.encode(self)))

    @property
    def chain_id(self) -> str:
        """The chain's name with the beginning of its genesis hash, for people."""
        return f"{self.chain}-{self.hash.hex()[:8]}"


GENESIS: Final[Record[Genesis]] = Record(
    Genesis,
    chain=NAME,
    time_ms=Integer(1, TIME_MS_MAX),
    miners=ListOf(
        Record(
            GenesisMiner,
            name=NAME,
            key=MINER_KEY,
            node_key=MINER_KEY,
            host=HOST,
            port=Integer(1, 65_535),
        ),
        MINERS_MAX,
        minimum=1,
    ),
    organisations=ListOf(
        Record(
            GenesisOrganisation,
            name=NAME,
            registrar_key=ANY_KEY,
            limits=Limits(),
        ),
        ORGANISATIONS_MAX,
    ),
    parameters=PARAMETERS,
    model=Optional(REGISTER.body),
)


def parse_genesis(document: object) -> Genesis:
    """Read the JSON of a genesis document; parameters that it leaves out have their defaults.

    Raises
    ------
    InvalidGenesis
        It is malformed or breaks a rule.
    """
    if isinstance(document, dict) and isinstance(document.get("parameters", {}), dict):
        defaults = PARAMETERS.render(Parameters())
        document = {**document, "parameters": {**defaults, **document.get("parameters", {})}}
    try:
        genesis = GENESIS.parse(document, "genesis")
    except DecodeError as error:
        raise InvalidGenesis(str(error)) from error
    _check(genesis)
    return genesis


def decode_genesis(data: bytes) -> Genesis:
    """Read the canonical bytes of a genesis document.

    Raises
    ------
    DecodeError, InvalidGenesis
        They are malformed, or it breaks a rule.
    """
    items = max(MINERS_MAX, ORGANISATIONS_MAX)
    genesis = GENESIS.decode(data, what="genesis", size_max=GENESIS_SIZE_MAX, items_max=items)
    _check(genesis)
    return genesis


def render_genesis(genesis: Genesis) -> dict[str, Any]:
    """Return the JSON of a genesis document."""
    return GENESIS.render(genesis)


def genesis_miners(genesis: Genesis) -> MinerSet:
    """Return the first set of miners."""
    members = [Miner(id=address_of(miner.key), key=miner.key) for miner in genesis.miners]
    return MinerSet(tuple(sorted(members, key=lambda member: member.id)))


def genesis_state(genesis: Genesis) -> dict[bytes, bytes | None]:
    """Return the entries of the first state, to be written before anything else."""
    overlay = Overlay(State(MemorySource({})))
    miners = genesis_miners(genesis).members
    overlay.put(MINER_SETS, MinerSets(current=miners, next=miners, after=None))
    overlay.put(PARAMETERS_TABLE, genesis.parameters)
    for miner in genesis.miners:
        record = MinerRecord(
            name=miner.name,
            key=miner.key,
            node_key=miner.node_key,
            host=miner.host,
            port=miner.port,
            status="active",
            since_height=Height(0),
        )
        id = address_of(miner.key)
        overlay.put(MINER_TABLE, record, id)
        claim(overlay, miner.key, Use(role="miner", owner=id))
        claim(overlay, miner.node_key, Use(role="node", owner=id))
    for organisation in genesis.organisations:
        entry = OrganisationRecord(
            name=organisation.name,
            registrar_key=organisation.registrar_key,
            limits=organisation.limits,
            active=True,
            device_count=0,
            model_count=0,
        )
        id = organisation_id(organisation.name)
        overlay.put(ORGANISATION_TABLE, entry, id)
        claim(overlay, organisation.registrar_key, Use(role=REGISTRAR, owner=id))
    if genesis.model is not None:
        model = ModelRecord(
            name=genesis.model.name,
            schema=genesis.model.schema,
            threshold_ppm=genesis.model.threshold_ppm,
            size_bytes=genesis.model.size_bytes,
            manifest=genesis.model.manifest,
            organisation=None,
            registered_height=Height(0),
        )
        overlay.put(MODEL_TABLE, model, genesis.model.model)
        first = Activation(from_height=Height(1), model=genesis.model.model)
        overlay.put(ACTIVE_MODELS, ActiveModels(activations=(first,)))
    return overlay.delta()


def genesis_header(genesis: Genesis, state_root: Digest) -> Header:
    """Return the header of block 0, which no certificate proves and none needs to."""
    miners = genesis_miners(genesis)
    return Header(
        version=BLOCK_VERSION,
        genesis_hash=genesis.hash,
        height=Height(0),
        time_ms=genesis.time_ms,
        parent_hash=ZERO_DIGEST,
        transaction_root=merkle_root(()),
        receipt_root=merkle_root(()),
        state_root=state_root,
        miner_set_hash=miners.hash,
        next_miner_set_hash=miners.hash,
        proposer=Address(bytes(ZERO_DIGEST)),
        proposal_round=Round(0),
    )


def _check(genesis: Genesis) -> None:
    try:
        check_parameters(genesis.parameters)
    except DecodeError as error:
        raise InvalidGenesis(str(error)) from error
    if genesis.parameters.lifetime_floor_ms:
        raise InvalidGenesis("lifetime_floor_ms is 0 at first")
    for what, values in (
        ("two miners have one key", [miner.key for miner in genesis.miners]),
        ("two miners have one node key", [miner.node_key for miner in genesis.miners]),
        ("two miners have one name", [miner.name for miner in genesis.miners]),
        ("two organisations have one name", [org.name for org in genesis.organisations]),
    ):
        if len(set(values)) != len(values):
            raise InvalidGenesis(what)
    keys = [key for miner in genesis.miners for key in (miner.key, miner.node_key)]
    registrars = [organisation.registrar_key for organisation in genesis.organisations]
    if len({*keys, *registrars}) != len(keys) + len(set(registrars)):
        raise InvalidGenesis("one key is that of a miner, of a node or of a registrar twice over")
    for key in [*keys, *registrars]:
        try:
            check_public_key(key)
        except InvalidKey as error:
            raise InvalidGenesis(f"{key.hex()}: {error}") from error
