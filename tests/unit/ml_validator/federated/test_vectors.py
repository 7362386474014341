"""A participant and a miner written from docs/spec/aggregation.md alone agree with the vectors.

Nothing of the project is used below; integers are Python's.
"""

import hashlib
import hmac
import itertools
import json
from fractions import Fraction
from math import isqrt
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

PRIME = 2**256 - 189
known = json.loads(
    (Path(__file__).parents[3] / "vectors" / "aggregation.json").read_text(encoding="utf-8")
)
group = known["group"]
ROUND = bytes.fromhex(group["round_id"])
INDEX = group["index"].to_bytes(4, "big")


def hkdf(secret, info, blocks=1):
    extracted = hmac.new(ROUND, secret, hashlib.sha256).digest()
    found = [b""]
    for number in range(1, blocks + 1):
        content = found[-1] + info + bytes((number,))
        found.append(hmac.new(extracted, content, hashlib.sha256).digest())
    return b"".join(found)


def words(key, count):
    stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(8 * count))
    return [int.from_bytes(stream[8 * i : 8 * i + 8], "little") for i in range(count)]


def agreed(private, public):
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(private)).exchange(
        X25519PublicKey.from_public_bytes(bytes.fromhex(public))
    )


def pair_words(one, other, count):
    ids = sorted((one["id"], other["id"]))
    info = b"securenet/fl/mask/1" + INDEX + bytes.fromhex("".join(ids))
    return words(hkdf(agreed(one["mask_private"], other["mask_public"]), info), count)


def signed(value):
    value %= 2**64
    return value - 2**64 if value >= 2**63 else value


def test_a_stranger_masks_an_update():
    for member in group["members"]:
        count = len(member["update"])
        seed = bytes.fromhex(member["self_seed"])
        info = b"securenet/fl/self/1" + INDEX + bytes.fromhex(member["id"])
        total = [
            u + m for u, m in zip(member["update"], words(hkdf(seed, info), count), strict=True)
        ]
        for other in group["members"]:
            if other is not member:
                sign = 1 if member["id"] < other["id"] else -1
                mask = pair_words(member, other, count)
                total = [value + sign * word for value, word in zip(total, mask, strict=True)]

        blob = b"".join((value % 2**64).to_bytes(8, "little") for value in total)
        assert blob.hex() == member["blob"]


def test_a_stranger_hashes_shares():
    for member in group["members"]:
        owner = bytes.fromhex(member["id"])
        hashes = b""
        for receiver, pair in zip(group["ids"], member["shares"], strict=True):
            for kind, name in enumerate(("self_mask", "key")):
                content = ROUND + owner + bytes.fromhex(receiver) + bytes((kind,))
                content += bytes.fromhex(pair[name])
                hashes += hashlib.sha256(b"securenet/fl/share/2" + content).digest()[:16]
        assert hashes.hex() == member["hashes"]


def test_a_stranger_takes_pads_for_shares_and_boxes_the_rest():
    box_keys = {member["id"]: member["box_public"] for member in group["members"]}
    box_keys[group["absent"]] = group["absent_box_public"]
    for member in group["members"]:
        owner = bytes.fromhex(member["id"])
        boxes, others = "", [id for id in group["ids"] if id != member["id"]]
        for position, receiver in enumerate(others):
            info = b"securenet/fl/pad/1" + owner + bytes.fromhex(receiver)
            both = hkdf(agreed(member["box_private"], box_keys[receiver]), info, blocks=2)
            pair = member["shares"][group["ids"].index(receiver)]
            for name, pad in (("self_mask", both[:32]), ("key", both[32:])):
                step = (int(pair[name], 16) - int.from_bytes(pad, "big")) % PRIME
                if position < group["threshold"] - 1:
                    assert step == 0
                else:
                    boxes += f"{step:064x}"
        assert boxes == member["boxes"]


def test_a_stranger_puts_secrets_together_from_any_threshold_of_shares():
    for member in group["members"]:
        for name, secret in (("self_mask", "self_seed"), ("key", "mask_private")):
            points = {i + 1: int(pair[name], 16) for i, pair in enumerate(member["shares"])}
            for chosen in itertools.combinations(points, group["threshold"]):
                value = 0
                for x in chosen:
                    above, below = 1, 1
                    for z in chosen:
                        if z != x:
                            above, below = above * -z, below * (x - z)
                    value += points[x] * above * pow(below, -1, PRIME)
                assert (value % PRIME).to_bytes(32, "big").hex() == member[secret]


def test_a_stranger_sums_a_group_from_blobs_and_revealed_secrets():
    survivors = [m for m in group["members"] if m["id"] != group["dropped"]]
    (dropped,) = (m for m in group["members"] if m["id"] == group["dropped"])
    count = len(dropped["update"])
    total = [0] * count
    for member in survivors:
        blob = bytes.fromhex(member["blob"])
        info = b"securenet/fl/self/1" + INDEX + bytes.fromhex(member["id"])
        own = words(hkdf(bytes.fromhex(member["self_seed"]), info), count)
        pair = pair_words(dropped, member, count)
        sign = 1 if dropped["id"] < member["id"] else -1
        for i in range(count):
            total[i] += int.from_bytes(blob[8 * i : 8 * i + 8], "little") - own[i] + sign * pair[i]

    sums = [signed(value) for value in total]
    assert sums == group["sum"]
    assert sums == [sum(column) for column in zip(*(m["update"] for m in survivors), strict=True)]
    weight = sum(member["weight"] for member in survivors)
    assert [round(Fraction(value, weight)) for value in sums] == group["mean"]


def test_a_stranger_rounds_clips_and_divides():
    for case in known["fixed_point"]["rounded"]:
        numbers = [Fraction(float.fromhex(number)) for number in case["numbers"]]
        assert [round(n * 2 ** case["fraction_bits"]) for n in numbers] == case["fixed"]
    for case in known["fixed_point"]["clipped"]:
        square = sum(value * value for value in case["values"])
        expected = case["values"]
        if square > case["norm_max"] ** 2:
            norm = isqrt(square - 1) + 1
            expected = [
                abs(v) * case["norm_max"] // norm * (1 if v >= 0 else -1) for v in case["values"]
            ]
        assert expected == case["result"]
    for case in known["fixed_point"]["divided"]:
        assert [round(Fraction(v, case["divisor"])) for v in case["values"]] == case["result"]


def blob_digest(data):
    root = hashlib.sha256(b"\x00" + data).digest()
    tag = b"securenet/blob/v1"
    return hashlib.sha256(bytes((len(tag),)) + tag + len(data).to_bytes(8, "big") + root)


@pytest.mark.parametrize("case", known["rules"], ids=lambda case: case["rule"])
def test_a_stranger_aggregates(case):
    ordered = sorted(case["contributions"], key=lambda c: c["digest"])
    rows = [c["values"] for c in ordered]
    b, n = case["attackers"], len(rows)
    if case["rule"] == "multi_krum":
        distances = [
            [sum((p - q) ** 2 for p, q in zip(r, s, strict=True)) for s in rows] for r in rows
        ]
        scores = [
            sum(sorted(d for j, d in enumerate(distances[i]) if j != i)[: n - b - 2])
            for i in range(n)
        ]
        rows = [rows[i] for i in sorted(range(n), key=lambda i: (scores[i], i))[: n - b]]
        kept = [list(column) for column in zip(*rows, strict=True)]
    else:
        columns = [sorted(column) for column in zip(*rows, strict=True)]
        cut = {"mean": 0, "median": (n - 1) // 2, "trimmed_mean": b}[case["rule"]]
        kept = [column[cut : n - cut] for column in columns]

    result = [round(Fraction(sum(column), len(column))) for column in kept]

    assert result == case["aggregate"]
    data = b"".join((value % 2**64).to_bytes(8, "little") for value in result)
    assert blob_digest(data).hexdigest() == case["digest"]
