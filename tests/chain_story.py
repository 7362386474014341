"""Random histories of a chain: all kinds of transactions, good and bad, drawn from one generator.

The same generator gives the same history, on every machine and in every process.
"""

from random import Random
from typing import Any

from chain.crypto import address_of
from chain.errors import Rejection
from chain.federated.records import OPEN_PHASES, ROUND_TABLE
from chain.kinds.appeal import DeviceAppeal
from chain.kinds.device_registry import (
    DeviceRelease,
    RefuseAppeal,
    Resume,
    Revoke,
    RotateKey,
    SetLimits,
    SetRoles,
    Suspend,
    sign_rotation,
)
from chain.kinds.miners import MinerPropose, RemoveMiner, RestoreMiner
from chain.kinds.models import ModelActivate
from chain.kinds.organisations import OrganisationChange
from chain.kinds.parameter_change import ParameterChange
from chain.kinds.policy import PolicySet
from chain.kinds.verdict import SCORE_MAX
from chain.limits import parse_limits
from chain.records.devices import DEVICE_TABLE
from chain.records.miners import MINER_TABLE
from chain.records.models import MODEL_TABLE
from chain.records.policies import PolicyRecord
from chain.transactions import Transaction
from chain.transition import Execution, lane_of
from chain.types import Address, Digest
from tests.builders import (
    Chain,
    Device,
    digest_of,
    flow,
    forged,
    key_of,
    make_genesis,
    make_model,
    reading,
    with_parameters,
)
from tests.federation import Federation, Forgery, make_deadlines, make_terms

ORGANISATIONS = ("acme", "globex")


class Story:
    """A chain and what happens to it.

    Parameters
    ----------
    random : Random
        Draws everything.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        genesis = make_genesis(
            miners=random.choice([1, 2, 4, 5]),
            organisations=ORGANISATIONS,
            model=make_model(),
            parameters=with_parameters(proposal_lifetime_ms=60_000),
        )
        self.chain = Chain(genesis)
        self.executions: list[Execution] = []
        self.devices: list[tuple[Device, str]] = []
        self.proposals: list[Transaction] = []
        self.committed: list[Transaction] = []
        self.registered = 0
        self.federation = Federation(self.chain, count=4)
        self.is_cheated = random.random() < 0.3
        first = [self._registration(), self._policy_of("acme"), self._policy_of("globex")]
        self.commit(self.split(first)[0])

    def draw(self) -> list[Transaction]:
        """Return transactions for the next block in the order of their lanes, many of them bad."""
        drawn = [
            transaction
            for _ in range(self.random.randrange(1, 12))
            if (transaction := self._transaction()) is not None
        ]
        if self.random.random() < 0.5:
            drawn += self._verdicts()
        drawn += self._learning()
        # Few devices are ever stopped; most of those complain.
        drawn += [
            self._appeal(device)
            for device, _ in self.devices
            if self._is_stopped(device) and self.random.random() < 0.7
        ]
        return sorted(drawn, key=lane_of)

    def split(self, drawn: list[Transaction]) -> tuple[list[Transaction], list[Transaction]]:
        """Return which of them pass in the next block, and which do not."""
        execution = self.chain.execution()
        good, bad = [], []
        for transaction in drawn:
            try:
                execution.apply(transaction)
            except Rejection:
                bad.append(transaction)
            else:
                good.append(transaction)
        return good, bad

    def commit(self, transactions: list[Transaction]) -> None:
        """Commit a block, in a later round now and then."""
        rounds = 1 if self.random.random() < 0.2 else 0
        self.executions.append(self.chain.commit(*transactions, round=rounds))
        self.committed = (self.committed + transactions)[-50:]

    def play(self, blocks: int) -> Chain:
        """Let so many blocks happen and return the chain."""
        for _ in range(blocks):
            if self.random.random() < 0.1:
                # A quiet hour: what nobody has decided by then expires.
                self.executions.append(self.chain.commit())
            self.commit(self.split(self.draw())[0])
        return self.chain

    def _transaction(self) -> Transaction | None:
        make = self.random.choice(
            [
                self._registration,
                self._report,
                self._report,
                self._report,
                self._update,
                self._governance,
                self._evidence,
                self._restoration,
                self._vote,
                self._vote,
                self._policy,
                self._replay,
            ]
        )
        transaction = make()
        if transaction is not None and self.random.random() < 0.1:
            return forged(transaction)
        return transaction

    def _registration(self) -> Transaction:
        organisation = self.random.choice(ORGANISATIONS)
        gateways = [device for device, owner in self.devices if owner == organisation]
        device, transaction = self.chain.registration(
            f"device-{self.registered - self.random.randrange(2)}",
            organisation=organisation,
            roles=self.random.choice([("gateway",), ("sensor",), ("gateway", "sensor")]),
            gateway=self.random.choice([None, *gateways]),
            limits=self.random.choice(["", "3:2", "1:1,4:60", None]),
            algorithm=self.random.choice(["ed25519", "p256"]),
        )
        self.registered += 1
        self.devices.append((device, organisation))
        return transaction

    def _device(self) -> tuple[Device, str] | None:
        return self.random.choice(self.devices) if self.devices else None

    def _report(self) -> Transaction | None:
        chosen = self._device()
        if chosen is None:
            return None
        body = self.random.choice([reading(), flow(), flow(), flow(schema=digest_of("another"))])
        offset_ms = self.random.choice([0, 0, 0, 0, -1_000, 5_000, 6_000, -60_000])
        time_ms = self.chain.next_time_ms + offset_ms
        return self.chain.by_device(chosen[0], body, time_ms=time_ms)

    def _update(self) -> Transaction | None:
        chosen = self._device()
        if chosen is None:
            return None
        device, owner = chosen
        if self.random.random() < 0.3:
            stopped = [pair for pair in self.devices if self._is_stopped(pair[0])]
            device, owner = self.random.choice(stopped or [chosen])
            return self.chain.by_registrar(
                "device.release", DeviceRelease(device=device.id), organisation=owner
            )
        new_key = key_of(f"key {self.random.randrange(5)}")
        proof = sign_rotation(self.chain.genesis.hash, device.id, new_key)
        change: Any = self.random.choice(
            [
                Suspend(),
                Resume(),
                Resume(),
                Revoke(),
                RefuseAppeal(),
                RefuseAppeal(),
                SetLimits(limits=parse_limits("2:5")),
                SetRoles(roles=("gateway",)),
                RotateKey(new_key=new_key.public, proof=proof),
            ]
        )
        if self.random.random() < 0.1:
            owner = self.random.choice(ORGANISATIONS)
        return self.chain.update(device, change, organisation=owner)

    def _appeal(self, device: Device) -> Transaction:
        appeal = DeviceAppeal(text=self.random.choice(["why?", "not me"]))
        return self.chain.transaction("device.appeal", appeal, device.key, device.id)

    def _is_stopped(self, device: Device) -> bool:
        record = self.chain.state.get(DEVICE_TABLE, device.id)
        return record is not None and (
            record.status == "quarantined" or record.is_limited(self.chain.next_time_ms)
        )

    def _members(self) -> list[int]:
        return [number for number in range(7) if _id_of(number) in self.chain.miners]

    def _miner(self) -> int:
        return self.random.choice([*self._members(), *self._members(), self.random.randrange(7)])

    def _governance(self) -> Transaction:
        number = self._miner()
        valid_ms = self.random.choice([0, 3_000, 1_000_000, 1_000_000])
        addition = self.chain.addition(
            number, valid_until_ms=self.chain.tip.header.time_ms + valid_ms
        )
        organisation = OrganisationChange(
            name=self.random.choice(["acme", "third"]),
            registrar_key=key_of("registrar of acme", "p256").public,
            limits=parse_limits(self.random.choice(["", "50:10"])),
            active=self.random.random() < 0.9,
        )
        lifetime = ParameterChange(
            name="transaction_lifetime_ms", value=self.random.choice(["5000", "60000", "bad"])
        )
        models = [Digest(id) for id, _ in self.chain.state.scan(MODEL_TABLE)]
        kind, body = self.random.choice(
            [
                ("miner.propose", addition),
                ("miner.propose", MinerPropose(change=RemoveMiner(miner=_id_of(number)))),
                ("organisation.change", organisation),
                ("param.change", lifetime),
                ("model.activate", ModelActivate(model=self.random.choice(models))),
            ]
        )
        transaction = self.chain.by_miner(self._miner(), kind, body)
        self.proposals = [*self.proposals[-9:], transaction]
        return transaction

    def _evidence(self) -> Transaction:
        height = self.chain.tip.next_height - self.random.choice([-1, 0, 0, 1, 5])
        accused = self._miner()
        key = key_of(f"miner {self.random.choice([accused, accused, accused, 0])}")
        body = self.chain.equivocation(accused, height=max(0, height), key=key)
        return self.chain.by_miner(self._miner(), "evidence", body)

    def _restoration(self) -> Transaction:
        demoted = [
            Address(id)
            for id, record in self.chain.state.scan(MINER_TABLE)
            if record.status == "demoted"
        ]
        miner = self.random.choice(demoted or [_id_of(0)])
        body = MinerPropose(change=RestoreMiner(miner=miner))
        transaction = self.chain.by_miner(self._miner(), "miner.propose", body)
        self.proposals = [*self.proposals[-9:], transaction]
        return transaction

    def _vote(self) -> Transaction | None:
        if not self.proposals:
            return None
        proposal = self.random.choice(self.proposals)
        return self.chain.vote(self._miner(), proposal, approve=self.random.random() < 0.9)

    def _verdicts(self) -> list[Transaction]:
        recent = range(max(1, self.chain.tip.header.height - 3), self.chain.tip.header.height + 1)
        judged = [height for height in recent if self.chain.tip.recent.flows(height)]
        if not judged:
            return []
        height = self.random.choice(judged)
        scores = [
            self.random.choice([0, SCORE_MAX, SCORE_MAX])
            for _ in self.chain.tip.recent.flows(height)
        ]
        members = self._members()
        count = self.random.choice([self.random.randrange(1, len(members) + 1), len(members)])
        voters = self.random.sample(members, count)
        return [self.chain.verdict(voter, height, scores) for voter in voters]

    def _policy(self) -> Transaction:
        if self.random.random() < 0.3:
            name = f"model-{self.random.randrange(3)}"
            model = make_model(name, model=digest_of(name))
            return self.chain.by_registrar("model.register", model)
        return self._policy_of(self.random.choice(ORGANISATIONS))

    def _policy_of(self, organisation: str) -> Transaction:
        policy = PolicyRecord(
            action=self.random.choice(
                ["observe", "limit", "limit", "quarantine", "quarantine", "quarantine", "revoke"]
            ),
            anomalous_min=self.random.randrange(1, 3),
            window=self.random.randrange(1, 6),
            duration_ms=self.random.choice([1_000, 100_000]),
        )
        return self.chain.by_registrar(
            "policy.set", PolicySet(policy=policy), organisation=organisation
        )

    def _learning(self) -> list[Transaction]:
        """Return steps of a federated round: most of its phase, by most of those who can."""
        federation = self.federation
        found = self.chain.state.get(ROUND_TABLE, federation.id)
        if found is None or not found.is_open:
            height = self.chain.tip.next_height
            group_size = 3 if self.is_cheated else self.random.choice([1, 3, 3])
            deadlines = make_deadlines(height, step=self.random.choice([2, 4]))
            federation.terms = make_terms(height, group_size=group_size, deadlines=deadlines)
            opening = federation.opening(organisation=self.random.choice(ORGANISATIONS))
            federation.id = opening.id
            return [opening]
        if self.random.random() < 0.03:
            return [federation.abort(organisation=self.random.choice(ORGANISATIONS))]
        phases = [found.phase] * 30 + list(OPEN_PHASES)
        steps: list[Transaction] = []
        for device in federation.devices:
            steps += self._step_of(device, self.random.choice(phases))
        for miner in self._members():
            steps += self._miner_step(miner, self.random.choice(phases))
        return [step for step in steps if self.random.random() < 0.9]

    def _step_of(self, device: Device, phase: str) -> list[Transaction]:
        federation = self.federation
        first, second, *_ = federation.devices
        match phase:
            case "join":
                return [federation.join(device)]
            case "share":
                forgery = Forgery(victim=second) if self.is_cheated and device == first else None
                return [federation.share(device, forgery=forgery)]
            case "commit":
                if self.is_cheated and device == second:
                    return [federation.complaint(second, first)]
                return [federation.commit(device)]
            case "reveal":
                return [federation.reveal(device)]
            case _:
                return []

    def _miner_step(self, miner: int, phase: str) -> list[Transaction]:
        federation = self.federation
        if phase == "attest":
            held = None if self.random.random() < 0.7 else federation.devices[:2]
            return [federation.attest(miner, held)]
        if phase == "aggregate":
            root = digest_of(self.random.choice(["a root", "a root", "a root", "a lie"]))
            return [federation.aggregate(miner, root=root)]
        return []

    def _replay(self) -> Transaction | None:
        return self.random.choice(self.committed) if self.committed else None


def _id_of(number: int) -> Address:
    return address_of(key_of(f"miner {number}").public)


def roots(seed: int, blocks: int) -> list[str]:
    """Return the hashes of the blocks of a story, for comparing processes."""
    chain = Story(Random(seed)).play(blocks)
    return [block.header.hash.hex() for block in chain.blocks]
