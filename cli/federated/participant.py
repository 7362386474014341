"""What a participant does in each phase of a federated round.

`Participant.act` looks at the round as the chain has it and does what is due, if anything is. It
may be called as often as one likes, by a process that was killed anywhere before: what is said once
is in the `MemoryStore` before it is sent, and is said again unchanged. docs/spec/federated.md.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any, Final, Protocol

import numpy as np

from chain.blobs import CHUNK_SIZE
from chain.federated.boxes import Pair, ShareKind
from chain.federated.records import FederatedRound, Member, SharesRecord, Terms
from chain.kinds.participation import (
    RoundComplaint,
    RoundJoin,
    RoundShare,
    UpdateCommit,
    UpdateReveal,
)
from chain.merkle import merkle_root
from chain.types import Address, Digest
from cli.errors import BadInput, Contradicted, Refused
from cli.federated.company import sees_all
from cli.federated.complaints import Turn, is_lost, nameable
from cli.federated.memory import CHANGES_MAX, SEED_SIZE, Memory, MemoryStore, check_same
from cli.federated.privacy import Privacy
from ml_validator.federated import (
    Group,
    RoundSecrets,
    UpdateRules,
    decode_words,
    encode_update,
    group_of,
    kinds_to_reveal,
    prepared,
    to_reveal,
)
from ml_validator.federated.fixed_point import Floats
from ml_validator.federated.privacy import prepared_privately
from node.ports import Random

OVERTAKEN: Final = frozenset(
    {"already_done", "not_needed", "round_closed", "too_early", "too_late", "void_group"}
)
"""Refusals that say that the round has gone on meanwhile: there is nothing to do but to look."""


class RoundPort(Protocol):
    """What a participant asks of the chain."""

    async def height(self) -> int:
        """Return how far the chain is."""
        ...

    async def shares(
        self, round_id: Digest, owners: Iterable[Address]
    ) -> Mapping[Address, SharesRecord]:
        """Return what members have handed to the others, of those that have."""
        ...

    async def organisations(self, devices: Iterable[Address]) -> Mapping[Address, Address]:
        """Return to which organisation each of these devices belongs."""
        ...

    async def send(self, kind: str, body: Any) -> None:
        """Send a transaction of the device and wait for it; raises `Refused`, `TimedOut`."""
        ...

    async def hand_in(self, digest: Digest, data: bytes) -> None:
        """Hand a blob to the node."""
        ...


class Participant:
    """One device in one federated round.

    Parameters
    ----------
    train : callable
        Makes the update, a vector of real numbers, from the terms of the round and the steps that
        the device is asked for.
    complains : bool
        Whether to give up the own part in the round to name a member whose box is no good, where
        nobody does it before and the group can bear it.
    shows : bool
        Whether to take part where the own update can be seen.
    tell : callable, optional
        Told why it goes no further in the round.
    privacy : Privacy, optional
        Adds noise to the update, and keeps the ledger of it; that of `privacy_in`.
    """

    def __init__(
        self,
        round_id: Digest,
        device: Address,
        *,
        store: MemoryStore,
        port: RoundPort,
        train: Callable[[Terms, int], Awaitable[Floats]],
        random: Random,
        complains: bool = False,
        shows: bool = False,
        tell: Callable[[str], None] = lambda reason: None,
        privacy: Privacy | None = None,
    ) -> None:
        self.round_id = round_id
        self.device = device
        self._store = store
        self._port = port
        self._train = train
        self._random = random
        self._complains = complains
        self._shows = shows
        self._tell = tell
        # Whether one other organisation sees what its group is handed; None: to be looked at.
        self._may_be_seen: bool | None = None
        self._privacy = privacy
        self._has_delivered = False
        self._has_revealed = False
        # Who has handed it false shares, and when it may complain of them.
        self._liars: frozenset[Address] | None = None
        self._turn = Turn()

    @property
    def has_delivered(self) -> bool:
        """Whether the update's digest stands, and the node has the update."""
        return self._has_delivered

    async def act(self, found: FederatedRound) -> None:
        """Do what is due in the phase that the round is in.

        Raises
        ------
        BadInput, Contradicted
            It cannot go on in this round, as the device has joined from another home.
        Refused
            It has no part in it, or a transaction is refused for good.
        """
        member = member_of(found, self.device)
        if found.phase != "join" and member.mask_key is None:
            raise _refused("too_late", f"the federated round is at {found.phase}, not at join")
        try:
            match found.phase:
                case "join":
                    await self._join(found, member)
                case "share":
                    await self._share(found, member)
                case "commit":
                    await self._commit(found, member)
                    if found.terms.is_masked:
                        await self._deliver(found, member)
                case "attest":
                    await self._deliver(found, member)
                case "reveal":
                    await self._reveal(found, member)
                case _:
                    pass
        except Refused as refusal:
            if refusal.code not in OVERTAKEN:
                raise

    async def _join(self, found: FederatedRound, member: Member) -> None:
        if member.mask_key is not None:
            self._memory(member)
            return
        memory = self._store.find(self.round_id, self.device)
        if memory is not None and memory.seed is None:
            raise _refused("round_closed", "this home has ended its part in the federated round")
        if self._privacy is not None:
            self._privacy.check(self.round_id, found)
        if memory is None:
            memory = Memory(
                round=self.round_id,
                device=self.device,
                seed=self._random.bytes(SEED_SIZE),
                base=found.terms.base,
                promise=None if self._privacy is None else self._privacy.promise,
            )
            self._store.save(memory)
        secrets = self._secrets(memory)
        body = RoundJoin(
            round=self.round_id, mask_key=secrets.mask_public, box_key=secrets.box_public
        )
        await self._port.send("round.join", body)

    async def _share(self, found: FederatedRound, member: Member) -> None:
        if member.status != "joined" or member.group is None:
            return
        memory = self._memory(member)
        is_new = memory.group is None
        if is_new and not self._shows and not await self._may_share(found, member):
            return
        secrets, group = self._secrets(memory), self._group(found, member)
        # Written first: a second list of members would get shares of the same secrets.
        digest = _digest_of(group)
        check_same(memory, "its group", memory.group, digest)
        self._store.save(replace(memory, group=digest))
        shares = secrets.shares(group)
        body = RoundShare(round=self.round_id, hashes=shares.hashes, boxes=shares.boxes)
        await self._port.send("round.share", body)

    async def _may_share(self, found: FederatedRound, member: Member) -> bool:
        """Tell whether the own update is hidden from every other organisation; if not, say so."""
        if self._may_be_seen is None:
            group = found.members_of(member.group)
            of = await self._port.organisations([each.device for each in group])
            who = sees_all(of, self.device)
            self._may_be_seen = who is not None
            if who is not None:
                self._tell(
                    f"organisation {who.hex()} has so many of the {len(group)} members of the own "
                    "group that it could see the own update: nothing is sent without --unmasked"
                )
        return not self._may_be_seen

    async def _commit(self, found: FederatedRound, member: Member) -> None:
        terms = found.terms
        due = "shared" if terms.is_masked else "joined"
        if member.status != due or is_lost(found, member):
            return
        memory = self._memory(member)
        if memory.accused is None and memory.update is None and self._complains:
            accusing = await self._accuse(found, member, memory)
            if accusing is None:
                return
            memory = accusing
        if memory.accused is not None:
            await self._complain(found, member, memory)
            return
        if memory.update is None:
            memory = await self._make_update(found, member, memory)
        while True:
            root = merkle_root(_chunks(self._store.load_update(memory)))
            commit = UpdateCommit(
                round=self.round_id, base=terms.base, size_bytes=terms.update_size, root=root
            )
            try:
                await self._port.send("update.commit", commit)
                return
            except Refused as refusal:
                if refusal.code != "duplicate_update" or memory.changes == CHANGES_MAX:
                    raise
            memory = self._change(memory, terms.parameter_count)

    async def _make_update(self, found: FederatedRound, member: Member, memory: Memory) -> Memory:
        terms = found.terms
        rules = UpdateRules(
            parameters=terms.parameter_count,
            fraction_bits=terms.scale_bits,
            # So much below the bound that changes of single bits stay within it.
            norm_max=max(1, terms.clip - CHANGES_MAX),
            weight_total=sum([other.weight for other in found.members]),
        )
        trained = await self._train(terms, member.steps)
        if self._privacy is None:
            values = prepared(trained, rules=rules, weight=member.weight)
        else:
            # Written first: what was told is counted, whatever becomes of this process.
            values = prepared_privately(
                trained,
                rules=rules,
                noise=self._privacy.spend(self.round_id, found),
                seed=self._secrets(memory).noise_seed,
                weight=member.weight,
            )
        if not terms.is_masked:
            return self._store.save_update(memory, encode_update(values))
        group = self._group(found, member)
        check_same(memory, "its group", memory.group, _digest_of(group))
        if len(group.members) - len(group.absent) < group.threshold:
            # Such a group is void on the chain. Who says otherwise wants few masks on the update.
            raise Contradicted(self.round_id.hex(), "who has shared")
        words = self._secrets(memory).masked(values, group)
        return self._store.save_update(memory, encode_update(words))

    def _change(self, memory: Memory, parameters: int) -> Memory:
        """Change an update that somebody has copied, in a way that tells nothing of it."""
        words = decode_words(self._store.load_update(memory), parameters=parameters)
        words[0] += np.uint64(1)
        changed = replace(memory, changes=memory.changes + 1)
        return self._store.save_update(changed, encode_update(words))

    async def _accuse(self, found: FederatedRound, member: Member, memory: Memory) -> Memory | None:
        """Accuse one that has cheated this member, if any is to be named; None: wait for it."""
        others = nameable(found, member)
        if not others:
            return memory
        if self._liars is None:
            received = await self._received(found, member, memory)
            self._liars = frozenset([owner for owner, pair in received.items() if pair is None])
        liars = [owner for owner in others if owner in self._liars]
        if not liars:
            return memory
        match self._turn.at(found, member, await self._port.height()):
            case "never":
                return memory
            case "later":
                return None
            case "now":
                accusing = replace(memory, accused=liars[0])
                self._store.save(accusing)
                return accusing

    async def _complain(self, found: FederatedRound, member: Member, memory: Memory) -> None:
        """Name who was accused, at the price of the own secret.

        Whoever has accused commits nothing, even where it sends nothing now: it may have been
        killed behind sending, and whoever has seen its secret could open its update.
        """
        if memory.accused not in nameable(found, member):
            return
        assert memory.accused is not None, "None is no member"
        secret = self._secrets(memory).box_private
        body = RoundComplaint(round=self.round_id, accused=memory.accused, secret=secret)
        try:
            await self._port.send("round.complaint", body)
        except Refused as refusal:
            # Somebody else has named it a moment before.
            if refusal.code != "invalid_state":
                raise

    async def _deliver(self, found: FederatedRound, member: Member) -> None:
        """Hand the update in, once its digest stands: before, it could be copied."""
        if member.status != "committed" or self._has_delivered or is_lost(found, member):
            return
        memory = self._memory(member)
        if member.update != memory.update:
            raise Contradicted(self.round_id.hex(), "update")
        assert member.update is not None, "who has committed has an update"
        await self._port.hand_in(member.update, self._store.load_update(memory))
        self._has_delivered = True

    async def _reveal(self, found: FederatedRound, member: Member) -> None:
        is_due = member.group in found.groups and member.group not in found.revealed
        can = member.has_shared and member.status not in ("complained", "expelled")
        if not is_due or not can or self._has_revealed:
            return
        memory = self._memory(member)
        assert member.group is not None, "who has shared was drawn into a group"
        kinds = kinds_to_reveal(found, member.group)
        # Written first: whoever is shown another list of survivors later reveals nothing more, and
        # so never both shares of one member.
        digest = _digest_of_kinds(kinds)
        check_same(memory, "who is included", memory.revealed, digest)
        self._store.save(replace(memory, revealed=digest))
        shares = to_reveal(kinds, await self._received(found, member, memory))
        if any(share is not None for share in shares):
            await self._port.send("update.reveal", UpdateReveal(round=self.round_id, shares=shares))
        self._has_revealed = True

    async def _received(
        self, found: FederatedRound, member: Member, memory: Memory
    ) -> dict[Address, Pair | None]:
        """Return the shares that each member has made for this one; None where they are no good."""
        group = self._group(found, member)
        others = [owner for owner in group.sharing if owner != self.device]
        records = await self._port.shares(self.round_id, others)
        if not records.keys() >= set(others):
            # They are forgotten with the end of a round, which may have come since it was found.
            raise _refused("round_closed", "what members have handed over is not there any more")
        return self._secrets(memory).received(group, records)

    def _memory(self, member: Member) -> Memory:
        """Return what was decided, where it is this home that has joined.

        Raises
        ------
        BadInput, Contradicted
            It is not.
        """
        memory = self._store.find(self.round_id, self.device)
        if memory is None or memory.seed is None:
            raise BadInput(
                f"{self._store.folder} knows nothing of the federated round that the device joined",
                "go on with the --home that it has joined with",
            )
        secrets = self._secrets(memory)
        if (member.mask_key, member.box_key) != (secrets.mask_public, secrets.box_public):
            raise Contradicted(self.round_id.hex(), "the key of this device")
        return memory

    def _secrets(self, memory: Memory) -> RoundSecrets:
        assert memory.seed is not None, "the round is not over"
        return RoundSecrets(seed=memory.seed, round_id=self.round_id, member=self.device)

    def _group(self, found: FederatedRound, member: Member) -> Group:
        assert member.group is not None, "it was drawn"
        return group_of(self.round_id, found, member.group)


def end_part(store: MemoryStore, round_id: Digest, device: Address, found: FederatedRound) -> None:
    """Destroy the secrets of a round that is over, and note whether it may have told a sum."""
    memory = store.find(round_id, device)
    if memory is not None and memory.seed is not None:
        member = member_of(found, device)
        # Of a group that was void before, nobody reveals anything that takes masks off; of another
        # somebody may have, and seen to it that the chain does not show it.
        is_opened = member.group in found.groups or memory.revealed is not None
        store.forget(memory, is_told=member.status == "included" and is_opened)


def member_of(found: FederatedRound, device: Address) -> Member:
    """Return the member that a device is; raises `Refused` where it is none."""
    position = found.position_of(device)
    if position is None:
        raise _refused("not_invited", "the federated round is not open to this device")
    return found.members[position]


def _digest_of(group: Group) -> Digest:
    """Return what names the members of a group and their keys."""
    parts = [group.round_id, group.index.to_bytes(4, "big"), *group.members]
    return Digest(sha256(b"".join([*parts, *group.mask_keys, *group.box_keys])).digest())


def _digest_of_kinds(kinds: Mapping[Address, ShareKind]) -> Digest:
    """Return what names the shares that are revealed."""
    return Digest(
        sha256(b"".join([owner + bytes((kind,)) for owner, kind in kinds.items()])).digest()
    )


def _chunks(data: bytes) -> list[bytes]:
    return [data[start : start + CHUNK_SIZE] for start in range(0, len(data), CHUNK_SIZE)]


def _refused(code: str, detail: str) -> Refused:
    return Refused(status=422, code=code, detail=detail)
