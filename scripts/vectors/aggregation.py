"""Golden vectors of the arithmetic of federated learning: docs/spec/aggregation.md."""

from hashlib import sha256
from typing import Any

import numpy as np

from chain.federated.boxes import ShareKind
from chain.types import Address, Digest
from ml_validator.federated.aggregation import (
    Contribution,
    Rule,
    aggregate,
    contribution,
    without_copies,
)
from ml_validator.federated.fixed_point import (
    UpdateRules,
    clipped,
    divided,
    encode_update,
    prepared,
    to_fixed,
)
from ml_validator.federated.group_sum import GroupInput, group_mean, group_sum
from ml_validator.federated.masking import Group
from ml_validator.federated.round_secrets import RoundSecrets

ROUND_ID = Digest(sha256(b"a federated round").digest())
PARAMETERS = 4


def aggregation() -> dict[str, Any]:
    """Return numbers with what is made of them, a masked group, and aggregates with digests."""
    return {"fixed_point": _fixed_point(), "group": _group(), "rules": _rules()}


def _fixed_point() -> dict[str, Any]:
    numbers = [0.0, 0.5, 1.5, -0.5, -2.5, 1e-9, 3.141592653589793, -65536.25]
    rules = UpdateRules(parameters=len(numbers), fraction_bits=0, norm_max=2**40, weight_total=100)
    scaled = UpdateRules(
        parameters=len(numbers), fraction_bits=24, norm_max=2**55, weight_total=100
    )
    vector = [3_000_000, -4_000_000, 7, 2**40]
    return {
        "rounded": [
            {
                "fraction_bits": rule.fraction_bits,
                "numbers": [number.hex() for number in numbers],
                "fixed": to_fixed(np.array(numbers), rules=rule).tolist(),
            }
            for rule in (rules, scaled)
        ],
        "clipped": [
            {
                "values": vector,
                "norm_max": norm_max,
                "result": clipped(np.array(vector, np.int64), norm_max).tolist(),
            }
            for norm_max in (1, 5_000_000, 2**41)
        ],
        "divided": [
            {
                "values": [5, 6, 7, -5, -6, -7, 2**62, -(2**62)],
                "divisor": divisor,
                "result": divided(
                    np.array([5, 6, 7, -5, -6, -7, 2**62, -(2**62)], np.int64), divisor
                ).tolist(),
            }
            for divisor in (1, 2, 4, 7)
        ],
    }


def _group() -> dict[str, Any]:
    """Seven members: one shares nothing, one drops out behind that, five survive."""
    ids = sorted(Address(sha256(b"participant" + bytes((i,))).digest()) for i in range(7))
    absent, dropped = ids[3], ids[1]
    secrets = [
        RoundSecrets(seed=sha256(b"seed" + id).digest(), round_id=ROUND_ID, member=id) for id in ids
    ]
    group = Group(
        round_id=ROUND_ID,
        index=2,
        members=tuple(ids),
        mask_keys=tuple(own.mask_public for own in secrets),
        box_keys=tuple(own.box_public for own in secrets),
        absent=frozenset({absent}),
    )
    rules = UpdateRules(parameters=PARAMETERS, fraction_bits=16, norm_max=2**30, weight_total=28)
    weights = dict(zip(ids, (1, 2, 3, 4, 5, 6, 7), strict=True))
    sharing = [own for own in secrets if own.member != absent]
    updates = {
        own.member: prepared(
            np.array([0.25, -1.5, 1e-5, 100.0]) * weights[own.member],
            rules=rules,
            weight=weights[own.member],
        )
        for own in sharing
    }
    blobs = {own.member: own.masked(updates[own.member], group) for own in sharing}
    # What the survivors, and they alone, reveal.
    revealed = {
        own.member: {
            group.place(receiver): pair[
                ShareKind.KEY if own.member == dropped else ShareKind.SELF_MASK
            ]
            for receiver, pair in zip(ids, own.pairs(group), strict=True)
            if receiver not in (absent, dropped)
        }
        for own in sharing
    }
    given = GroupInput(
        group=group,
        blobs={id: blob for id, blob in blobs.items() if id != dropped},
        self_shares={id: shares for id, shares in revealed.items() if id != dropped},
        key_shares={dropped: revealed[dropped]},
    )
    mean = group_mean(given, weights=weights, rules=rules)
    return {
        "round_id": ROUND_ID.hex(),
        "index": group.index,
        "threshold": group.threshold,
        "ids": [id.hex() for id in ids],
        "members": [
            {
                "id": own.member.hex(),
                "weight": weights[own.member],
                "mask_private": own.mask_private.hex(),
                "mask_public": own.mask_public.hex(),
                "box_private": own.box_private.hex(),
                "box_public": own.box_public.hex(),
                "self_seed": own.self_seed.hex(),
                "update": updates[own.member].tolist(),
                "blob": encode_update(blobs[own.member]).hex(),
                "shares": [
                    {kind.name.lower(): pair[kind].hex() for kind in ShareKind}
                    for pair in own.pairs(group)
                ],
                "hashes": own.shares(group).hashes.hex(),
                "boxes": own.shares(group).boxes.hex(),
            }
            for own in sharing
        ],
        "absent": absent.hex(),
        "absent_box_public": secrets[3].box_public.hex(),
        "dropped": dropped.hex(),
        "sum": group_sum(given).tolist(),
        "mean": mean.tolist(),
        "mean_digest": contribution(mean).digest.hex(),
    }


def _rules() -> list[dict[str, Any]]:
    """Seven contributions, pseudo-random, of which one is far off and one a copy."""
    words = b"".join(sha256(b"row" + bytes((i,))).digest() for i in range(7))
    rows = np.frombuffer(words, "<i8").astype(np.int64).reshape(7, PARAMETERS) >> np.int64(20)
    rows[5] *= np.int64(-1000)
    rows[6] = rows[0]
    given = [contribution(row) for row in rows]
    cases: list[tuple[Rule, int, list[Contribution]]] = [
        (rule, attackers, chosen)
        for chosen in (given, without_copies(given))
        for rule, attackers in (
            (Rule.MEAN, 0),
            (Rule.MEDIAN, 2),
            (Rule.TRIMMED_MEAN, 2),
            (Rule.MULTI_KRUM, 1),
        )
    ]
    return [
        {
            "rule": rule.value,
            "attackers": attackers,
            "contributions": [
                {"digest": c.digest.hex(), "values": c.values.tolist()} for c in chosen
            ],
            "aggregate": result.tolist(),
            "digest": contribution(result).digest.hex(),
        }
        for rule, attackers, chosen in cases
        for result in (aggregate(chosen, rule=rule, attackers=attackers),)
    ]
