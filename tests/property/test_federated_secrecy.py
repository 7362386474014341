"""What can be learned of single updates from all that was ever sent, and from who colludes.

Rounds are lived through by real participants, of which some die in a phase, come back, hand out
false shares or complain. The oracle then has every transaction, accepted or not, every blob, and
all that colluders know, and takes off masks as far as that goes: by arithmetic, so that what it
finds is an update or is none.
"""

from random import Random

import numpy as np
import pytest

from chain.federated.boxes import ShareKind, open_box, padded_count, pads_of
from chain.federated.records import BOX_SIZE, threshold
from chain.reader_keys import ReaderKey
from chain.types import Address
from cli.federated.complaints import complaints_max
from ml_validator.errors import InvalidShare
from ml_validator.federated import RoundSecrets, decode_words, group_of
from ml_validator.federated.fixed_point import UpdateRules, prepared
from ml_validator.federated.masking import pair_mask, self_mask
from ml_validator.federated.secret_sharing import combine
from tests.unit.cli.federated.test_participant import forge_shares, let_complain
from tests.unit.cli.federated.world import Life, World

PHASES = ("share", "commit", "attest", "reveal")


class Oracle:
    """Takes masks off, as whoever has a transcript and the seeds of some members can."""

    def __init__(self, world, colluders):
        federation = world.federation
        self.world = world
        self.group = group_of(federation.id, federation.record, 0)
        own = {
            device.id: RoundSecrets(
                seed=world.memory(device).seed, round_id=federation.id, member=device.id
            )
            for device in colluders
        }
        self.boxes = {id: secrets.box_private for id, secrets in own.items()}
        self.masks = {id: secrets.mask_private for id, secrets in own.items()}
        self.selves = {id: secrets.self_seed for id, secrets in own.items()}
        self.shared = {}
        self.shares: dict[ShareKind, dict[Address, dict[int, bytes]]]
        self.shares = {kind: {id: {} for id in self.group.members} for kind in ShareKind}
        for device in federation.devices:
            for kind, body in world.ports[device.id].sent:
                self.read(device.id, kind, body)
        self.open_boxes()
        self.restore()

    def read(self, sender, kind, body):
        """Take in what a member has sent."""
        if kind == "round.share":
            self.shared[sender] = body
        elif kind == "round.complaint":
            self.boxes[sender] = body.secret
        elif kind == "update.reveal":
            owners = self.group.sharing
            for owner, share in zip(owners, body.shares, strict=True):
                # Whether of the one kind or the other: as one it restores nothing.
                for shares in self.shares.values():
                    if share is not None:
                        shares[owner].setdefault(self.group.place(sender), share)

    def open_boxes(self):
        """Open every handover of which the secret of one end is known."""
        group = self.group
        keys = dict(zip(group.members, group.box_keys, strict=True))
        for owner, body in self.shared.items():
            for index, receiver in enumerate([id for id in group.members if id != owner]):
                for end, other in ((owner, receiver), (receiver, owner)):
                    if end not in self.boxes:
                        continue
                    pads = pads_of(self.boxes[end], keys[other], group.handover(owner, receiver))
                    box = index - padded_count(len(group.members))
                    pair = pads if box < 0 else open_box(pads, body.boxes[BOX_SIZE * box :][:64])
                    for kind in ShareKind:
                        self.shares[kind][owner][group.place(receiver)] = pair[kind]

    def restore(self):
        """Put together each secret of which there are shares enough."""
        public = dict(zip(self.group.members, self.group.mask_keys, strict=True))
        for kind, found in ((ShareKind.SELF_MASK, self.selves), (ShareKind.KEY, self.masks)):
            for owner, shares in self.shares[kind].items():
                try:
                    secret = combine(shares, members=len(self.group.members), owner=owner)
                except InvalidShare:
                    continue
                if kind is ShareKind.SELF_MASK or ReaderKey(secret).public == public[owner]:
                    found.setdefault(owner, secret)

    def update_of(self, device):
        """Return what is left of a blob, or None where a mask stays on it."""
        group, own = self.group, device.id
        memory = self.world.memory(device)
        blob = self.world.blobs.get(memory.update)
        if blob is None or own not in self.selves:
            return None
        words = decode_words(blob, parameters=self.world.federation.terms.parameter_count)
        count = len(words)
        left = words - self_mask(group, own, seed=self.selves[own], count=count)
        for other in group.sharing:
            if other == own:
                continue
            if own in self.masks:
                key = ReaderKey(self.masks[own])
                left -= pair_mask(group, own, other, private=key, count=count)
            elif other in self.masks:
                key = ReaderKey(self.masks[other])
                left += pair_mask(group, other, own, private=key, count=count)
            else:
                return None
        return left.view(np.int64)

    def seen(self):
        """Return who of the members is laid bare."""
        return [
            device.id
            for device in self.world.federation.devices
            if self.world.trained[device.id]
            and np.array_equal(self.update_of(device), trained_by(self.world, device))
        ]


def trained_by(world, device):
    """Return what a device has trained, as it has sent it but for the masks."""
    terms, members = world.federation.terms, world.federation.record.members
    rules = UpdateRules(
        parameters=terms.parameter_count,
        fraction_bits=terms.scale_bits,
        norm_max=terms.clip - 4,
        weight_total=sum([member.weight for member in members]),
    )
    weight = world.federation.member_of(device).weight
    return prepared(world.trained[device.id][-1], rules=rules, weight=weight)


def live_through(folder, chance):
    """Return a round of one group in which much goes wrong."""
    size = chance.choice([5, 7, 8, 10])
    world = World(folder, count=size, group_size=size, phase_heights=60)
    devices = world.federation.devices
    for liar in chance.sample(devices, chance.choice([0, 0, 1, 2])):
        forge_shares(world, liar)
    let_complain(world, *chance.sample(devices, chance.choice([0, size])))
    lost = {device: chance.choice(PHASES) for device in chance.sample(devices, size // 3)}
    back = {device for device in lost if chance.random() < 0.5}
    for device in lost:
        # Amid an effect; what dies so starts again and goes on.
        if chance.random() < 0.5:
            world.lives[device.id] = Life(killed_at=chance.randrange(1, 30))
            world.start(device)
    for phase in PHASES:
        world.play(until=phase)
        world.dead |= {device.id for device, when in lost.items() if when == phase}
        world.dead -= {device.id for device in back if chance.random() < 0.5}
    world.play()
    return world


@pytest.mark.attack("F10")
@pytest.mark.parametrize("seed", range(10))
def test_below_the_threshold_nobody_finds_an_update_in_all_that_was_sent(tmp_path, seed):
    chance = Random(seed)
    world = live_through(tmp_path, chance)
    devices = world.federation.devices
    size = len(devices)
    told = [device for device in devices if world.ports[device.id].bodies("round.complaint")]
    assert len(told) <= complaints_max(size)
    colluders = chance.sample(devices, threshold(size) - 2 - len(told))

    seen = Oracle(world, colluders).seen()

    assert set(seen) <= {device.id for device in (*colluders, *told)}


@pytest.mark.attack("F10")
def test_at_the_threshold_the_oracle_finds_every_update(tmp_path):
    world = World(tmp_path, count=7, group_size=7)
    world.play()
    devices = world.federation.devices

    seen = Oracle(world, devices[: threshold(7)]).seen()

    assert seen == [device.id for device in devices]


@pytest.mark.attack("F10")
def test_one_below_it_the_only_other_one_that_is_left_is_found(tmp_path):
    world = World(tmp_path, count=7, group_size=7)
    devices = world.federation.devices
    colluders, last, lost = devices[:4], devices[4], devices[5:]
    world.play(until="commit")
    world.dead |= {device.id for device in lost}
    world.play()
    assert world.federation.record.phase == "finished"

    assert Oracle(world, colluders).seen() == [device.id for device in (*colluders, last)]
    assert last.id not in Oracle(world, colluders[:3]).seen()
