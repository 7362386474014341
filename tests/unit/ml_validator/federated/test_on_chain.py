"""A federated round on a chain, whose participants and miners compute what they say."""

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from chain.blobs import CHUNK_SIZE
from chain.federated.records import REVEAL_TABLE, SHARES_TABLE, FederatedRound
from chain.kinds.rounds import Invitation
from chain.merkle import merkle_root
from chain.transactions import Transaction
from chain.types import Address
from ml_validator.errors import InvalidUpdate, TooFewContributions, VoidGroup
from ml_validator.federated.aggregation import contribution
from ml_validator.federated.fixed_point import divided, encode_update, prepared
from ml_validator.federated.on_chain import (
    aggregate_of,
    contribution_of,
    group_of,
    kinds_to_reveal,
    read_update,
    rules_of,
)
from ml_validator.federated.round_secrets import RoundSecrets
from ml_validator.federated.share_box import to_reveal
from tests.builders import Device
from tests.federation import Federation

PARAMETERS = 6


class LearningFederation(Federation):
    """A federation that does the arithmetic; `liars` send an update far outside of the rules."""

    liars: frozenset[Address] = frozenset()

    def __init__(self, **terms: Any) -> None:
        terms = {"parameter_count": PARAMETERS, "clip": 2**30} | terms
        super().__init__(**terms)

    def opening(self, *, organisation: str = "acme", **fields: Any) -> Transaction:
        invited = tuple(
            Invitation(device=device.id, weight=number + 1, steps=5)
            for number, device in enumerate(self.devices)
        )
        return super().opening(organisation=organisation, participants=invited, **fields)

    def secrets_of(self, device: Device) -> RoundSecrets:
        seed = sha256(b"seed" + device.id).digest()
        return RoundSecrets(seed=seed, round_id=self.id, member=device.id)

    def group_at(self, device: Device):
        index = self.member_of(device).group
        assert index is not None
        return group_of(self.id, self.record, index)

    def update_of(self, device: Device) -> np.ndarray:
        number = self.devices.index(device) + 1
        weight = self.member_of(device).weight
        values = np.linspace(-number, number, PARAMETERS)
        return prepared(values, rules=rules_of(self.record), weight=weight)

    def blob_of(self, device: Device) -> bytes:
        update = self.update_of(device)
        if device.id in self.liars:
            update = update + np.int64(2**61)
        if self.terms.is_masked:
            masked = self.secrets_of(device).masked(update, self.group_at(device))
            return encode_update(masked)
        return encode_update(update)

    def join(self, device: Device, **fields: Any) -> Transaction:
        own = self.secrets_of(device)
        return super().join(device, mask_key=own.mask_public, box_key=own.box_public, **fields)

    def share(self, device: Device, **fields: Any) -> Transaction:
        shares = self.secrets_of(device).shares(self.group_at(device))
        return super().share(device, hashes=shares.hashes, boxes=shares.boxes, **fields)

    def commit(self, device: Device, **fields: Any) -> Transaction:
        data = self.blob_of(device)
        assert len(data) <= CHUNK_SIZE, "one chunk is the blob"
        return super().commit(device, root=merkle_root([data]), **fields)

    def reveal(self, device: Device, **fields: Any) -> Transaction:
        own, group = self.secrets_of(device), self.group_at(device)
        records = {
            owner: record
            for owner in group.sharing
            if (record := self.chain.state.get(SHARES_TABLE, self.id + owner)) is not None
        }
        kinds = kinds_to_reveal(self.record, group.index)
        return super().reveal(
            device, shares=to_reveal(kinds, own.received(group, records)), **fields
        )

    def computed(self) -> np.ndarray:
        """Return what a miner computes of the round as it stands."""
        included = [d for d in self.devices if self.member_of(d).status == "included"]
        reveals = {
            device.id: record
            for device in self.devices
            if (record := self.chain.state.get(REVEAL_TABLE, self.id + device.id)) is not None
        }
        return aggregate_of(
            self.id,
            self.record,
            reveals=reveals,
            blobs={device.id: self.blob_of(device) for device in included},
        )

    def mean_of(self, devices: Iterable[Device]) -> np.ndarray:
        """Return what a group of these should come to."""
        chosen = list(devices)
        weight = sum(self.member_of(device).weight for device in chosen)
        return divided(np.sum([self.update_of(device) for device in chosen], axis=0), weight)


def test_miners_compute_the_mean_that_nobody_has_shown():
    federation = LearningFederation(count=5, group_size=5)
    federation.play_to("aggregate")

    aggregate = federation.computed()

    assert aggregate.tolist() == federation.mean_of(federation.devices).tolist()
    root = merkle_root([encode_update(aggregate)])
    federation.chain.commit(*[federation.aggregate(miner, root=root) for miner in range(4)])
    assert federation.record.phase == "finished"
    assert federation.record.aggregate == contribution(aggregate).digest


@pytest.mark.parametrize("dies_at", ["join", "share", "commit", "reveal"])
def test_a_participant_may_die_in_any_phase(dies_at):
    federation = LearningFederation(count=7, group_size=6)
    federation.play_to(dies_at)
    dead = federation.devices[2]

    federation.play_to("aggregate", without=[dead])

    counting = [d for d in federation.devices if d is not dead or dies_at == "reveal"]
    assert federation.record.phase == "aggregate"
    assert federation.computed().tolist() == federation.mean_of(counting).tolist()


def test_the_median_of_groups_leaves_a_spoiled_one_behind():
    federation = LearningFederation(count=9, group_size=3, groups_min=2, rule="median", tolerated=0)
    federation.liars = frozenset({federation.devices[0].id})
    federation.play_to("aggregate")
    record = federation.record
    spoiled = federation.member_of(federation.devices[0]).group

    aggregate = federation.computed()

    means = [
        federation.mean_of(federation.device_of(member) for member in record.members_of(index))
        for index in record.groups
        if index != spoiled
    ]
    assert len(means) == 2
    assert aggregate.tolist() == divided(means[0] + means[1], 2).tolist()


def test_with_too_few_sound_groups_a_miner_says_nothing():
    federation = LearningFederation(count=9, group_size=3, groups_min=3, rule="median", tolerated=1)
    federation.liars = frozenset({federation.devices[0].id})
    federation.play_to("aggregate")

    with pytest.raises(TooFewContributions):
        federation.computed()


@pytest.mark.attack("F9")
def test_in_the_audit_mode_an_update_beyond_the_bound_is_not_sound():
    federation = LearningFederation(count=4, group_size=1, groups_min=3)
    federation.liars = frozenset({federation.devices[0].id})
    federation.play_to("attest")
    members = federation.record.members

    liar, *honest = zip(federation.devices, members, strict=True)
    with pytest.raises(InvalidUpdate, match="norm"):
        read_update(federation.blob_of(liar[0]), liar[1], federation.record)
    for device, member in honest:
        assert read_update(federation.blob_of(device), member, federation.record).tolist() == (
            federation.update_of(device).tolist()
        )
    with pytest.raises(InvalidUpdate):
        read_update(b"short", members[1], federation.record)


@pytest.mark.attack("F9")
def test_in_the_audit_mode_an_update_that_was_attested_falsely_is_left_out():
    federation = LearningFederation(count=4, group_size=1, groups_min=3)
    federation.liars = frozenset({federation.devices[0].id})
    federation.play_to("aggregate")
    group = federation.member_of(federation.devices[0]).group
    assert group is not None

    with pytest.raises(VoidGroup, match="norm"):
        contribution_of(
            federation.id,
            federation.record,
            group,
            reveals={},
            blobs={device.id: federation.blob_of(device) for device in federation.devices},
        )


@pytest.mark.attack("F2")
def test_in_the_audit_mode_a_longer_copy_is_left_out():
    federation = LearningFederation(count=4, group_size=1, groups_min=3)
    federation.play_to("aggregate")

    # All four are multiples of one direction.
    with pytest.raises(TooFewContributions) as refused:
        federation.computed()

    assert refused.value.count == 1


def test_terms_of_the_chain_are_rules_of_updates():
    federation = LearningFederation(count=4)
    federation.open()
    found: FederatedRound = federation.record

    rules = rules_of(found)

    assert (rules.parameters, rules.norm_max, rules.fraction_bits) == (PARAMETERS, 2**30, 24)
    assert rules.weight_total == 1 + 2 + 3 + 4
