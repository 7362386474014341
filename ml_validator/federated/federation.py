"""Federated rounds without a network: participants, attackers among them, and the miners' sums.

What participants send goes through the same fixed point, masks, sums and rules as on the chain;
only transport and time are left out. For comparisons, benchmarks and tests.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Final

import numpy as np
import numpy.typing as npt

from chain.federated.boxes import ShareKind
from chain.federated.records import (
    BOX_SIZE,
    PARAMETER_BYTES,
    SHARE_HASH_SIZE,
    SHARE_SIZE,
    X25519_KEY_SIZE,
    box_count,
)
from chain.types import Address, Digest
from ml_validator.federated.aggregation import Contribution, Rule, aggregate, contribution
from ml_validator.federated.fixed_point import (
    Integers,
    UpdateRules,
    divided,
    prepared,
    to_floats,
)
from ml_validator.federated.group_sum import GroupInput, group_mean
from ml_validator.federated.local_training import Floats, Network, train
from ml_validator.federated.masking import Group
from ml_validator.federated.round_secrets import RoundSecrets
from ml_validator.federated.server_optimisers import (
    Doubles,
    FedAdam,
    Scaffold,
    ServerOptimiser,
    next_control,
)
from ml_validator.federated.task import Part

FRACTION_BITS: Final = 24
NORM_MAX: Final = 4.0
"""Of an update: honest ones are up to 3 long in the first rounds and 0.3 in later ones."""

SCALED_BY: Final = -5.0


class Poison(StrEnum):
    """What an attacker does instead of its part."""

    SIGN_FLIP = "sign_flip"
    """Sends its update times −5, shortened to the bound like everybody's."""

    LABEL_FLIP = "label_flip"
    """Trains on attacks called normal and normal rows called attacks."""

    GAUSSIAN = "gaussian"
    """Sends noise as long as the bound allows."""

    LITTLE = "little_is_enough"
    """Knows all honest updates and sends their mean less one deviation, so as to hide among them
    (G. Baruch, M. Baruch, Y. Goldberg, "A Little Is Enough", NeurIPS 2019)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How participants learn together.

    Parameters
    ----------
    network : Network
    rounds, steps : int
        Federated rounds, and local steps in each.
    rate : float
        Of the local steps.
    optimiser : callable
        Makes what moves the common model.
    rule : Rule
        Over groups, or over updates in the audit mode.
    attackers : int
        How many contributions the rule shall withstand.
    group_size : int or None
        Of masked groups; None for the audit mode.
    masks : bool
        Whether the groups' sums are made through masks and shares, or directly, which gives the
        same integers and takes less time.
    """

    network: Network
    rounds: int = 40
    steps: int = 100
    rate: float = 0.3
    optimiser: Callable[[], ServerOptimiser] = field(default=lambda: FedAdam(rate=0.1))
    rule: Rule = Rule.MEAN
    attackers: int = 0
    group_size: int | None = None
    masks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """What came of a plan.

    Parameters
    ----------
    models : tuple of ndarray
        The common model after each round.
    bytes_moved : int
        Updates up, models down, and what masks need besides.
    """

    models: tuple[Floats, ...]
    bytes_moved: int

    @property
    def model(self) -> Floats:
        """The last of them."""
        return self.models[-1]


def learn(
    clients: Sequence[Part],
    plan: Plan,
    *,
    random: np.random.Generator,
    poison: Mapping[int, Poison] | None = None,
    on_round: Callable[[], None] = lambda: None,
) -> Outcome:
    """Follow a plan.

    Parameters
    ----------
    clients : sequence of Part
        The rows of each participant.
    poison : mapping of int to Poison, optional
        What the attackers do, by their indices.

    Raises
    ------
    TooFewContributions
        There are fewer groups than the rule needs.
    """
    spoiled = poison or {}
    parts = [
        _flipped(part) if spoiled.get(index) is Poison.LABEL_FLIP else part
        for index, part in enumerate(clients)
    ]
    network, optimiser = plan.network, plan.optimiser()
    model = network.start(random).astype(np.float64)
    scaffold = optimiser if isinstance(optimiser, Scaffold) else None
    controls = [np.zeros(network.parameters) for _ in parts]
    length = network.parameters * (1 if scaffold is None else 2)
    rules = UpdateRules(
        parameters=length,
        fraction_bits=FRACTION_BITS,
        norm_max=int(NORM_MAX * 2**FRACTION_BITS),
        weight_total=len(parts),
    )
    models = []
    for number in range(plan.rounds):
        changes = []
        for index, part in enumerate(parts):
            change = _local_change(plan, model, part, random, scaffold, controls[index])
            if scaffold is not None:
                control = next_control(
                    controls[index], scaffold.common, change, steps=plan.steps, rate=plan.rate
                )
                change = np.concatenate((change, control - controls[index]))
                controls[index] = control
            changes.append(change)
        sent = _poisoned(changes, spoiled, random) if spoiled else changes
        updates = [prepared(change, rules=rules) for change in sent]
        rows = _contributions(updates, plan, rules, random, number)
        merged = aggregate(rows, rule=plan.rule, attackers=plan.attackers)
        model = optimiser.step(model, to_floats(merged, fraction_bits=FRACTION_BITS))
        models.append(model.astype(np.float32))
        on_round()
    return Outcome(
        models=tuple(models),
        bytes_moved=plan.rounds * _bytes_of_round(len(parts), length, network.parameters, plan),
    )


def group_indices(
    participants: int, *, size: int, random: np.random.Generator
) -> list[npt.NDArray[np.intp]]:
    """Draw groups of at least `size`: as many as there can be, alike in size."""
    order = random.permutation(participants)
    return [np.sort(group) for group in np.array_split(order, max(participants // size, 1))]


def masked_group(
    updates: Mapping[int, Integers],
    members: Iterable[int],
    *,
    index: int,
    number: int,
    random: np.random.Generator,
) -> GroupInput:
    """Let participants mask their updates for each other, and reveal what unmasks the sum.

    Parameters
    ----------
    updates : mapping of int to ndarray
        By the numbers of the participants; members that are not in it drop out after they have
        shared their secrets.
    members : iterable of int
        Participants of the group.
    index, number : int
        Of the group, and of the federated round.
    """
    round_id = Digest(sha256(b"federated round" + number.to_bytes(4, "big")).digest())
    update_of = {}
    secrets = []
    for member in members:
        id = Address(sha256(b"participant" + member.to_bytes(4, "big")).digest())
        secrets.append(RoundSecrets(seed=random.bytes(32), round_id=round_id, member=id))
        if member in updates:
            update_of[id] = updates[member]
    secrets.sort(key=lambda own: own.member)
    group = Group(
        round_id=round_id,
        index=index,
        members=tuple(own.member for own in secrets),
        mask_keys=tuple(own.mask_public for own in secrets),
        box_keys=tuple(own.box_public for own in secrets),
    )
    revealed: dict[bool, dict[Address, dict[int, bytes]]] = {True: {}, False: {}}
    for own in secrets:
        stays = own.member in update_of
        kind = ShareKind.SELF_MASK if stays else ShareKind.KEY
        revealed[stays][own.member] = {
            place: pair[kind]
            for place, (receiver, pair) in enumerate(
                zip(group.members, own.pairs(group), strict=True), 1
            )
            if receiver in update_of
        }
    return GroupInput(
        group=group,
        blobs={
            own.member: own.masked(update_of[own.member], group)
            for own in secrets
            if own.member in update_of
        },
        self_shares=revealed[True],
        key_shares=revealed[False],
    )


def _contributions(
    updates: Sequence[Integers],
    plan: Plan,
    rules: UpdateRules,
    random: np.random.Generator,
    number: int,
) -> list[Contribution]:
    if plan.group_size is None:
        return [contribution(update) for update in updates]
    groups = group_indices(len(updates), size=plan.group_size, random=random)
    if plan.masks:
        named = dict(enumerate(updates))
        means = []
        for index, members in enumerate(groups):
            given = masked_group(named, members.tolist(), index=index, number=number, random=random)
            weights = dict.fromkeys(given.group.members, 1)
            means.append(group_mean(given, weights=weights, rules=rules))
    else:
        means = [
            divided(np.sum([updates[i] for i in group], axis=0, dtype=np.int64), len(group))
            for group in groups
        ]
    return [contribution(mean) for mean in means]


def _local_change(
    plan: Plan,
    model: Doubles,
    part: Part,
    random: np.random.Generator,
    scaffold: Scaffold | None,
    control: Doubles,
) -> Doubles:
    start = model.astype(np.float32)
    end = train(
        plan.network,
        start,
        part.scaled,
        part.classes,
        steps=plan.steps,
        rate=plan.rate,
        random=random,
        correction=None if scaffold is None else (scaffold.common - control).astype(np.float32),
    )
    return (end - start).astype(np.float64)


def _poisoned(
    changes: Sequence[Doubles], spoiled: Mapping[int, Poison], random: np.random.Generator
) -> list[Doubles]:
    """Return what is sent where attackers know everybody's change of the model."""
    honest = np.array([change for index, change in enumerate(changes) if index not in spoiled])
    sent = list(changes)
    for index, poison in spoiled.items():
        match poison:
            case Poison.SIGN_FLIP:
                sent[index] = SCALED_BY * changes[index]
            case Poison.LABEL_FLIP:
                pass  # What it has learned is false already.
            case Poison.GAUSSIAN:
                noise = random.normal(size=len(changes[index]))
                sent[index] = noise * (NORM_MAX / np.linalg.norm(noise))
            case Poison.LITTLE:
                sent[index] = honest.mean(axis=0) - honest.std(axis=0)
    return sent


def _flipped(part: Part) -> Part:
    return Part(
        integers=part.integers,
        scaled=part.scaled,
        classes=np.where(part.classes == 0, 1, 0),
    )


def _bytes_of_round(participants: int, sent: int, received: int, plan: Plan) -> int:
    plain = participants * PARAMETER_BYTES * (sent + received)
    if plan.group_size is None:
        return plain
    groups = max(participants // plan.group_size, 1)
    size = -(-participants // groups)
    # Two keys; two hashes of each member's shares, and boxes for some; the shares revealed.
    shared = 2 * SHARE_HASH_SIZE * size + BOX_SIZE * box_count(size)
    return plain + participants * (2 * X25519_KEY_SIZE + shared + SHARE_SIZE * size)
