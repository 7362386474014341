"""The sum of a group's updates, from masked blobs and revealed shares.

Every miner that has the blobs does this for itself and gets the same integers. Nothing here sees an
update: only what the survivors of a group sum to. docs/spec/aggregation.md, section 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from chain.reader_keys import ReaderKey
from chain.types import Address
from ml_validator.errors import InvalidShare, InvalidUpdate, VoidGroup
from ml_validator.federated.fixed_point import (
    Integers,
    UpdateRules,
    Words,
    check_norm,
    divided,
)
from ml_validator.federated.masking import Group, pair_mask, self_mask
from ml_validator.federated.secret_sharing import combine

Shares = Mapping[int, bytes]
"""Revealed shares of one secret by their places; the chain has compared them with their hashes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInput:
    """What the chain and the blobs say of one group.

    Parameters
    ----------
    group : Group
    blobs : mapping of Address to ndarray of shape (n_parameters,), uint64
        Masked updates of the survivors, by their ids; each is looked up when it is added, so they
        need not be in memory together.
    self_shares : mapping of Address to Shares
        Of the seeds of the survivors' self masks.
    key_shares : mapping of Address to Shares
        Of the mask keys of the dropped members that have shared them.
    """

    group: Group
    blobs: Mapping[Address, Words]
    self_shares: Mapping[Address, Shares]
    key_shares: Mapping[Address, Shares]


def group_sum(given: GroupInput) -> Integers:
    """Take all masks off the sum of the survivors' blobs.

    Raises
    ------
    VoidGroup
        Fewer survivors than the threshold, or a secret that its shares do not give: too few, or
        of another key than the announced one.
    """
    group, blobs = given.group, given.blobs
    if len(blobs) < group.threshold:
        raise VoidGroup(group.index, f"{len(blobs)} remain, {group.threshold} are needed")
    survivors = [member for member in group.members if member in blobs]
    count = len(blobs[survivors[0]])
    total = np.zeros(count, np.uint64)
    try:
        for member in survivors:
            total += blobs[member]
            seed = _secret(given.self_shares, group, member)
            total -= self_mask(group, member, seed=seed, count=count)
        for dropped, announced in zip(group.members, group.mask_keys, strict=True):
            if dropped not in blobs and dropped not in group.absent:
                private = ReaderKey(_secret(given.key_shares, group, dropped))
                if private.public != announced:
                    raise InvalidShare(dropped, "they give another key than the announced one")
                for member in survivors:
                    # What `dropped` would have added, `member` has subtracted.
                    total += pair_mask(group, dropped, member, private=private, count=count)
    except InvalidShare as error:
        raise VoidGroup(group.index, str(error)) from error
    return total.view(np.int64)


def group_mean(
    given: GroupInput, *, weights: Mapping[Address, int], rules: UpdateRules
) -> Integers:
    """Return the weighted mean of a group's updates, rounded half to even.

    Parameters
    ----------
    weights : mapping of Address to int
        With which each member multiplied its update.

    Raises
    ------
    VoidGroup
        As in `group_sum`; or the sum is longer than any sum of permitted updates can be. So a
        member broke the rules, and what the others sent is lost in what it did.
    """
    total = group_sum(given)
    weight = sum(weights[member] for member in given.blobs)
    try:
        check_norm(total, norm_max=rules.norm_max * weight)
    except InvalidUpdate as error:
        raise VoidGroup(given.group.index, f"no permitted sum: {error}") from error
    return divided(total, weight)


def _secret(shares: Mapping[Address, Shares], group: Group, owner: Address) -> bytes:
    return combine(shares.get(owner, {}), members=len(group.members), owner=owner)
