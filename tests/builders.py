"""Valid values of the chain, so that a test shows only what matters to it.

Everything here is a function of its arguments: the same call gives the same bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from itertools import count
from typing import Any

from chain import codec
from chain.blocks import Block, Header, decode_block, encode_block
from chain.certificate import VOTE_TAG, SignedVote, VoteCertificate, VoteType, vote_bytes
from chain.crypto import Algorithm, SigningKey, address_of, signing_key
from chain.eligibility import eligible_miners, proposer_of
from chain.errors import Rejection
from chain.genesis import (
    Genesis,
    GenesisMiner,
    GenesisOrganisation,
    genesis_header,
    genesis_state,
)
from chain.kinds import KINDS
from chain.kinds.base import BlockContext
from chain.kinds.device_data import DeviceData
from chain.kinds.device_registry import DeviceRegister, DeviceUpdate, device_id
from chain.kinds.evidence import Equivocation
from chain.kinds.miners import (
    AddMiner,
    MinerPropose,
    ReplaceKeys,
    anchor_height,
    sign_acceptance,
    sign_replacement,
)
from chain.kinds.models import ModelRegister
from chain.kinds.organisations import organisation_id
from chain.kinds.verdict import Verdict, opinion_of, pack_opinions
from chain.kinds.vote import MinerVote
from chain.limits import parse_limits
from chain.lookback import Lookback
from chain.miners import MINERS_MAX, Miner, MinerSet
from chain.parameters import Parameters
from chain.payloads import Chunked, Flow, Measurement, Reading
from chain.records.devices import DEVICE_TABLE, DeviceRecord
from chain.records.miners import MINER_TABLE
from chain.state import MemorySource, State, active_model_at, miner_sets_of
from chain.table import Table
from chain.transactions import Payload, Transaction, attach_signature, sign_transaction
from chain.transition import BlockExecution, Execution, Tip, advance, check_block, open_context
from chain.types import (
    Address,
    Digest,
    Height,
    PublicKey,
    Round,
    Signature,
    TimestampMs,
)

GENESIS_TIME_MS = 1_700_000_000_000
BLOCK_INTERVAL_MS = 1_000
ACCEPTANCE_MS = 30 * 24 * 3_600_000
SCHEMA = Digest(sha256(b"a feature schema").digest())
MODEL = Digest(sha256(b"a model").digest())
THRESHOLD_PPM = 500_000


@cache
def key_of(name: str, algorithm: Algorithm = "ed25519") -> SigningKey:
    """Return the key that belongs to a name."""
    return signing_key(algorithm, sha256(f"key of {name}".encode()).digest())


def digest_of(name: str) -> Digest:
    """Return a digest that belongs to a name."""
    return Digest(sha256(name.encode()).digest())


@cache
def miner_keys() -> dict[Address, SigningKey]:
    """Return the keys of ``miner 0``, ``miner 1``, … by the ids of the miners."""
    keys = [key_of(f"miner {number}") for number in range(MINERS_MAX)]
    return {address_of(key.public): key for key in keys}


def make_miner_set(size: int) -> MinerSet:
    """Return a set of `size` miners with the keys of ``miner 0``, ``miner 1``, …"""
    keys = [key_of(f"miner {number}").public for number in range(size)]
    members = [Miner(id=address_of(key), key=key) for key in keys]
    return MinerSet(tuple(sorted(members, key=lambda member: member.id)))


def make_model(
    name: str = "forest", *, model: Digest = MODEL, schema: Digest = SCHEMA
) -> ModelRegister:
    """Return a model to register."""
    return ModelRegister(
        model=model,
        name=name,
        schema=schema,
        threshold_ppm=THRESHOLD_PPM,
        size_bytes=1_000,
        manifest=digest_of(f"manifest of {name}"),
    )


def make_genesis(
    *,
    miners: int = 4,
    organisations: Sequence[str] = ("acme",),
    parameters: Parameters | None = None,
    limits: str = "",
    model: ModelRegister | None = None,
) -> Genesis:
    """Return a genesis document; registrars have P-256 keys, everybody else Ed25519."""
    return Genesis(
        chain="test",
        time_ms=TimestampMs(GENESIS_TIME_MS),
        miners=tuple(
            GenesisMiner(
                name=f"miner-{number}",
                key=key_of(f"miner {number}").public,
                node_key=key_of(f"node {number}").public,
                host="127.0.0.1",
                port=26_756 + 10 * number,
            )
            for number in range(miners)
        ),
        organisations=tuple(
            GenesisOrganisation(
                name=name,
                registrar_key=key_of(f"registrar of {name}", "p256").public,
                limits=parse_limits(limits),
            )
            for name in organisations
        ),
        parameters=Parameters() if parameters is None else parameters,
        model=model,
    )


def reading(value: int = 215) -> DeviceData:
    """Return a report of one measurement."""
    measurement = Measurement(name="temperature", value=value, exponent=-1, unit="C")
    return DeviceData(payload=Reading(values=(measurement,)))


def chunked(label: str = "file", *, size: int = 100) -> Chunked:
    """Return a file in chunks of `size` bytes together."""
    return Chunked(
        root=digest_of(f"chunks of {label}"),
        size_bytes=size,
        manifest=digest_of(f"manifest of {label}"),
    )


def named_file(label: str = "file") -> DeviceData:
    """Return a report that names a file in chunks."""
    return DeviceData(payload=chunked(label))


def flow(*, schema: Digest = SCHEMA) -> DeviceData:
    """Return a report of one network flow."""
    return DeviceData(payload=Flow(schema=schema, integers=(0, 1, 2), categories=("tcp",)))


def forged(transaction: Transaction) -> Transaction:
    """Return the transaction with a signature that does not verify."""
    flipped = bytes((transaction.signature[0] ^ 1,)) + transaction.signature[1:]
    return attach_signature(transaction.payload, Signature(flipped))


def code_of(execution: BlockExecution, transaction: Transaction) -> str | None:
    """Execute a transaction; return the code with which it is refused, or None."""
    try:
        execution.apply(transaction)
    except Rejection as error:
        return error.code
    return None


def make_certificate(
    header: Header,
    miners: MinerSet,
    keys: dict[Address, SigningKey],
    *,
    signers: Sequence[int] | None = None,
    round: int = 0,
    type: VoteType = VoteType.COMMIT,
) -> VoteCertificate:
    """Return a certificate by the members at the indices `signers`, or by the first quorum."""
    message = vote_bytes(
        genesis_hash=header.genesis_hash,
        type=type,
        height=header.height,
        round=Round(round),
        digest=header.hash,
    )
    indices = range(miners.quorum) if signers is None else signers
    votes = tuple(
        SignedVote(index=index, signature=keys[miners.members[index].id].sign(VOTE_TAG, message))
        for index in indices
    )
    return VoteCertificate(
        height=header.height, round=Round(round), digest=header.hash, votes=votes
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A registered device and its key."""

    id: Address
    key: SigningKey


class Chain:
    """A chain in memory with all its keys; what it commits, it has checked as a stranger would.

    Parameters
    ----------
    verify : callable, optional
        VERIFYSIG; by default the real one.
    """

    def __init__(
        self,
        genesis: Genesis | None = None,
        *,
        verify: Callable[[Transaction, PublicKey], bool] = Transaction.is_signed_by,
    ) -> None:
        self.genesis = make_genesis() if genesis is None else genesis
        self.verify = verify
        self.source = MemorySource(genesis_state(self.genesis))
        state = State(self.source)
        self.first = genesis_header(self.genesis, state.root)
        self.tip = Tip(header=self.first, state=state, recent=Lookback())
        self.blocks: list[Block] = []
        self.keys = dict(miner_keys())
        self._nonces = count()

    @property
    def state(self) -> State:
        """The committed state."""
        return self.tip.state

    @property
    def miners(self) -> MinerSet:
        """The set of the next height."""
        return miner_sets_of(self.state)[0]

    @property
    def next_time_ms(self) -> TimestampMs:
        """The time of the next block, unless a test chooses another."""
        return TimestampMs(self.tip.header.time_ms + BLOCK_INTERVAL_MS)

    def hash_of(self, height: int) -> Digest:
        """Return the hash of a block."""
        return (self.first, *[block.header for block in self.blocks])[height].hash

    def proposer(self, round: int = 0) -> Address:
        """Return who proposes the next height in `round`."""
        eligible = eligible_miners(self.state, self.miners, self.tip.next_height)
        return proposer_of(eligible, self.tip.next_height, Round(round))

    # --- transactions ---------------------------------------------------------------------------

    def transaction(
        self,
        kind: str,
        body: Any,
        key: SigningKey,
        sender: Address,
        *,
        time_ms: int | None = None,
        nonce: bytes | None = None,
    ) -> Transaction:
        """Return a signed transaction of the time of the next block."""
        payload = Payload(
            version=1,
            genesis_hash=self.genesis.hash,
            kind=kind,
            sender=sender,
            time_ms=self.next_time_ms if time_ms is None else TimestampMs(time_ms),
            nonce=next(self._nonces).to_bytes(8, "big") if nonce is None else nonce,
            body=KINDS[kind].body.encode(body),
        )
        return sign_transaction(payload, key)

    def by_miner(self, number: int, kind: str, body: Any, **fields: Any) -> Transaction:
        """Return a transaction of the miner called ``miner {number}``."""
        key = key_of(f"miner {number}")
        return self.transaction(kind, body, key, address_of(key.public), **fields)

    def by_registrar(
        self, kind: str, body: Any, *, organisation: str = "acme", **fields: Any
    ) -> Transaction:
        """Return a transaction of an organisation's registrar."""
        key = key_of(f"registrar of {organisation}", "p256")
        return self.transaction(kind, body, key, organisation_id(organisation), **fields)

    def by_device(
        self, device: Device, body: DeviceData | None = None, **fields: Any
    ) -> Transaction:
        """Return a report of a device, by default a reading."""
        report = reading() if body is None else body
        return self.transaction("device.data", report, device.key, device.id, **fields)

    def vote(self, number: int, proposal: Transaction, *, approve: bool = True) -> Transaction:
        """Return the vote of a miner on the proposal that a transaction opened."""
        return self.by_miner(number, "miner.vote", MinerVote(proposal=proposal.id, approve=approve))

    def addition(
        self, number: int = 4, *, valid_until_ms: int | None = None, **fields: Any
    ) -> MinerPropose:
        """Return the proposal to add ``miner {number}``, which accepts the values it names.

        `signer` is the name of its key, if this is not its first one.
        """
        key = key_of(fields.pop("signer", f"miner {number}"))
        node_key = fields.get("node_key", key_of(f"node {number}").public)
        if valid_until_ms is None:
            valid_until_ms = self.tip.header.time_ms + ACCEPTANCE_MS
        height = fields.get("height", anchor_height(self.tip.header.height))
        block_hash = fields["block_hash"] if "block_hash" in fields else self.hash_of(height)
        shown = {"height": height, "block_hash": block_hash}
        values: dict[str, Any] = {
            "name": f"miner-{number}",
            "key": key.public,
            "node_key": node_key,
            "host": f"miner-{number}.example",
            "port": 26_756,
            **shown,
            "valid_until_ms": valid_until_ms,
            "acceptance": sign_acceptance(
                self.genesis.hash, key, node_key, **shown, valid_until_ms=valid_until_ms
            ),
            **fields,
        }
        return MinerPropose(change=AddMiner(**values))

    def replacement(
        self, number: int = 3, *, key: str | None = None, node_key: str | None = None, **fields: Any
    ) -> MinerPropose:
        """Return the proposal to give ``miner {number}`` the keys of these names, all signed.

        `old`, a name as well, is that of its present key, if this is not its first one.
        """
        names = (f"miner {number}", f"node {number}")
        old = key_of(fields.pop("old", names[0]))
        new = old if key is None else key_of(key)
        node = key_of(names[1] if node_key is None else node_key)
        miner = address_of(key_of(names[0]).public)
        valid_until_ms = fields.pop("valid_until_ms", self.tip.header.time_ms + ACCEPTANCE_MS)
        keys: dict[str, Any] = {
            "key": new.public,
            "node_key": node.public,
            "valid_until_ms": valid_until_ms,
        }
        signatures = {
            name: sign_replacement(self.genesis.hash, miner, signer, **keys)
            for name, signer in (("by_old", old), ("by_new", new), ("by_node", node))
        }
        values: dict[str, Any] = {"miner": miner, **keys, **signatures, **fields}
        return MinerPropose(change=ReplaceKeys(**values))

    def equivocation(
        self,
        number: int,
        *,
        type: str = "prepare",
        height: int | None = None,
        round: int = 0,
        says: Sequence[Sequence[object]] = ((digest_of("a block"),), (digest_of("another"),)),
        key: SigningKey | None = None,
    ) -> Equivocation:
        """Return two statements of ``miner {number}`` about the next height, unless said otherwise.

        What is said besides type, height and round decides whether they contradict each other.
        """
        signer = key_of(f"miner {number}") if key is None else key
        about = (self.genesis.hash, type, self.tip.next_height if height is None else height, round)
        first, second = sorted(codec.encode((*about, *said)) for said in says)
        return Equivocation(
            miner=address_of(key_of(f"miner {number}").public),
            first=first,
            first_signature=signer.sign(VOTE_TAG, first),
            second=second,
            second_signature=signer.sign(VOTE_TAG, second),
        )

    def verdict(
        self, number: int, height: int, scores: Sequence[int], *, model: Digest | None = None
    ) -> Transaction:
        """Return a miner's verdict on the flows of a block."""
        active = active_model_at(self.state, height) if model is None else model
        assert active is not None, "a model judges that height"
        body = Verdict(
            height=Height(height),
            model=active,
            judged=self.tip.recent.judged(height) or digest_of("nothing"),
            opinions=opinions_of(scores),
        )
        return self.by_miner(number, "verdict", body)

    def registration(
        self,
        name: str,
        *,
        organisation: str = "acme",
        roles: tuple[str, ...] = ("sensor",),
        gateway: Device | None = None,
        limits: str | None = None,
        algorithm: Algorithm = "ed25519",
    ) -> tuple[Device, Transaction]:
        """Return a device to be, and the transaction that registers it."""
        key = key_of(f"device {name}", algorithm)
        body = DeviceRegister(
            name=name,
            key=key.public,
            roles=roles,
            gateway=None if gateway is None else gateway.id,
            limits=None if limits is None else parse_limits(limits),
        )
        id = device_id(self.genesis.hash, organisation_id(organisation), key.public)
        return Device(id=id, key=key), self.by_registrar(
            "device.register", body, organisation=organisation
        )

    # --- blocks ---------------------------------------------------------------------------------

    def context(
        self, *, time_ms: int | None = None, proposer: Address | None = None
    ) -> BlockContext:
        """Return the context of the next block, with nothing in it yet."""
        return open_context(
            self.tip,
            proposer=self.proposer() if proposer is None else proposer,
            time_ms=self.next_time_ms if time_ms is None else TimestampMs(time_ms),
        )

    def execution(self, *, time_ms: int | None = None, round: int = 0) -> BlockExecution:
        """Return the next block, open for transactions."""
        return BlockExecution(
            self.tip,
            proposer=self.proposer(round),
            proposal_round=Round(round),
            time_ms=self.next_time_ms if time_ms is None else TimestampMs(time_ms),
            verify=self.verify,
        )

    def block(
        self, *transactions: Transaction, time_ms: int | None = None, round: int = 0
    ) -> Block:
        """Return the next block with these transactions, uncommitted."""
        execution = self.execution(time_ms=time_ms, round=round)
        for transaction in transactions:
            execution.apply(transaction)
        return Block(header=execution.finish().header, transactions=transactions)

    def commit(
        self, *transactions: Transaction, time_ms: int | None = None, round: int = 0
    ) -> Execution:
        """Build the next block, check it from its bytes, and commit it.

        Without transactions it is a heartbeat, unless a test gives it a time or a round.
        """
        if not transactions and time_ms is None and round == 0:
            time_ms = self.tip.header.time_ms + self.context().parameters.heartbeat_ms
        block = self.block(*transactions, time_ms=time_ms, round=round)
        return self.accept(decode_block(encode_block(block)))

    def accept(self, block: Block) -> Execution:
        """Check a block and commit it."""
        execution = check_block(self.tip, block, self.verify)
        self.source.apply(execution.delta)
        self.tip = advance(self.tip, execution)
        self.blocks.append(block)
        return execution

    def pass_time(self, ms: int) -> None:
        """Commit a heartbeat `ms` after the last block, or later where none is due by then."""
        due = self.context().parameters.heartbeat_ms
        self.commit(time_ms=self.tip.header.time_ms + max(ms, due))

    def rejection(
        self, transaction: Transaction, *before: Transaction, time_ms: int | None = None
    ) -> Rejection:
        """Return how `transaction` is refused behind others in the next block.

        That it left nothing behind is asserted here, for every refusal of every test.
        """
        refused = self.execution(time_ms=time_ms)
        without = self.execution(time_ms=time_ms)
        for earlier in before:
            refused.apply(earlier)
            without.apply(earlier)
        try:
            refused.apply(transaction)
        except Rejection as error:
            left, expected = refused.finish(), without.finish()
            assert left.delta == expected.delta, "a refused transaction writes nothing"
            assert left.summary == expected.summary, "a refused transaction charges nothing"
            assert left.header == expected.header
            return error
        raise AssertionError(f"{transaction.payload.kind} was accepted")

    def put(self, table: Table[Any], record: Any, key: bytes = b"") -> None:
        """Write a record that no transaction would write; the next block starts from it."""
        delta = {table.key(key): table.encode(record)}
        self.source.apply(delta)
        self.state.advance(delta, self.state.tree.updated(delta))

    def demote(self, miner: Address) -> None:
        """Demote a miner, as evidence against it would."""
        record = self.state.get(MINER_TABLE, miner)
        assert record is not None, "the miner is on record"
        self.put(MINER_TABLE, replace(record, status="demoted"), miner)

    # --- shortcuts ------------------------------------------------------------------------------

    def register(self, name: str = "device", **fields: Any) -> Device:
        """Register a device in a block of its own."""
        device, transaction = self.registration(name, **fields)
        self.commit(transaction)
        return device

    def update(self, device: Device, change: Any, *, organisation: str = "acme") -> Transaction:
        """Return a registrar's change of a device."""
        body = DeviceUpdate(device=device.id, change=change)
        return self.by_registrar("device.update", body, organisation=organisation)

    def device(self, device: Device) -> DeviceRecord:
        """Return what the registry says of a device."""
        record = self.state.get(DEVICE_TABLE, device.id)
        assert record is not None, "the device is registered"
        return record

    def decide(self, kind: str, body: Any, *, voters: Sequence[int] = (0, 1, 2)) -> Transaction:
        """Let miners agree on a proposal: the first opens it, the others approve, one block."""
        proposal = self.by_miner(voters[0], kind, body)
        votes = [self.vote(voter, proposal) for voter in voters[1:]]
        self.commit(proposal, *votes)
        return proposal

    def judge(
        self, height: int, scores: Sequence[int], *, voters: Sequence[int] = (0, 1, 2)
    ) -> None:
        """Let miners give the same verdict on a block."""
        self.commit(*[self.verdict(voter, height, scores) for voter in voters])

    def certificate(self, header: Header, miners: MinerSet, **fields: Any) -> VoteCertificate:
        """Return a certificate of a block by the chain's miners."""
        return make_certificate(header, miners, self.keys, **fields)


def opinions_of(scores: Sequence[int]) -> bytes:
    """Return what a detector with `THRESHOLD_PPM` says with these scores."""
    return pack_opinions([opinion_of(score, THRESHOLD_PPM) for score in scores])


def with_parameters(**values: Any) -> Parameters:
    """Return the default parameters with some of them set."""
    return replace(Parameters(), **values)
