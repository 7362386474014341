"""Noise is what it should be, is paid for, and does not come out anew after a restart."""

from dataclasses import replace
from math import exp, log, sqrt

import numpy as np
import pytest

from chain.types import Digest
from ml_validator.errors import InvalidUpdate, NoiseChanged, PrivacySpent
from ml_validator.federated.group_sum import group_sum
from ml_validator.federated.privacy import (
    Noise,
    PrivacyLedger,
    Spent,
    _Bits,
    _gaussian,
    _happens,
    epsilon_of,
    fitting_noise,
    prepared_privately,
)
from tests.unit.ml_validator.federated.helpers import (
    collect,
    make_group,
    make_rules,
    make_secrets,
)

SEED = b"n" * 32
BASE = Digest(b"m" * 32)
DRAWS = 20_000


def test_a_chance_is_the_exponential_of_a_fraction():
    bits = _Bits(SEED)

    for numerator, denominator in ((0, 1), (1, 3), (1, 1), (5, 2)):
        share = sum(_happens(numerator, denominator, bits) for _ in range(DRAWS)) / DRAWS
        # Five standard errors.
        assert abs(share - exp(-numerator / denominator)) < 5 * 0.5 / sqrt(DRAWS)


@pytest.mark.parametrize("variance", [1, 16, 10_000])
def test_noise_has_the_chances_of_a_discrete_gaussian(variance):
    bits = _Bits(SEED)

    drawn = np.array([_gaussian(variance, bits) for _ in range(DRAWS)])

    assert abs(drawn.mean()) < 5 * sqrt(variance / DRAWS)
    assert abs(drawn.var() / variance - 1) < 5 * sqrt(2 / DRAWS)
    reach = range(-40 * variance, 40 * variance + 1) if variance < 20 else ()
    weights = {x: exp(-x * x / (2 * variance)) for x in reach}
    for value in (0, 1, -1, 3) if weights else ():
        expected = weights[value] / sum(weights.values())
        assert abs((drawn == value).mean() - expected) < 5 * 0.5 / sqrt(DRAWS)


@pytest.mark.attack("F10")
def test_any_threshold_of_members_has_noise_enough():
    secrets = make_secrets(4)
    group = make_group(secrets)
    rules = make_rules(parameters=4_000, norm_max=2**40)
    noise = Noise(sensitivity=2**20, deviation=2**21, members=group.threshold)
    zeros = np.zeros(rules.parameters)
    updates = {
        own.member: prepared_privately(zeros, rules=rules, noise=noise, seed=own.noise_seed)
        for own in secrets[: group.threshold]
    }

    total = group_sum(collect(group, secrets, updates))

    assert abs(total.std() / noise.deviation - 1) < 5 * sqrt(0.5 / rules.parameters)


def test_a_restart_makes_the_same_noise():
    rules = make_rules(parameters=10)
    noise = Noise(sensitivity=1_000, deviation=5_000, members=3)
    own = make_secrets(1)[0]

    first, second = (
        prepared_privately(np.ones(10), rules=rules, noise=noise, seed=own.noise_seed)
        for _ in range(2)
    )

    assert first.tolist() == second.tolist()


@pytest.mark.attack("F10")
def test_an_update_is_shortened_before_it_gets_noise():
    rules = make_rules(parameters=100, fraction_bits=0)
    noise = Noise(sensitivity=10**9, deviation=100, members=3)

    update = prepared_privately(np.full(100, 1e12), rules=rules, noise=noise, seed=SEED)

    assert abs(sqrt(sum(value**2 for value in update.tolist())) - 10**9) < 10**4


def test_noise_without_room_or_too_small_is_refused():
    rules = make_rules(parameters=100, norm_max=10_000)

    with pytest.raises(InvalidUpdate, match="exceed 10000"):
        prepared_privately(
            np.zeros(100),
            rules=rules,
            noise=Noise(sensitivity=1_000, deviation=1_000, members=3),
            seed=SEED,
        )
    with pytest.raises(InvalidUpdate, match="too small"):
        Noise(sensitivity=1, deviation=6, members=3)


@pytest.mark.parametrize("members", [1, 7])
@pytest.mark.parametrize("multiplier", [0.3, 1.0, 20.0])
def test_noise_fills_the_bound_and_fits_it(multiplier, members):
    rules = make_rules(parameters=123, norm_max=2**32)

    noise = fitting_noise(
        multiplier, parameters=rules.parameters, norm_max=rules.norm_max, members=members
    )

    used = noise.sensitivity + noise.room(rules.parameters)
    assert 0.999 * rules.norm_max < used <= rules.norm_max
    assert noise.member_variance >= (multiplier * noise.sensitivity) ** 2
    prepared_privately(np.ones(123), rules=rules, noise=noise, seed=SEED)


def test_a_bound_without_room_for_noise_is_refused():
    with pytest.raises(InvalidUpdate, match="no room"):
        fitting_noise(1.0, parameters=123, norm_max=60)


@pytest.mark.parametrize(
    ("rho", "delta", "accountant"),
    # What the RDP accountant of dp-accounting 0.6.0 gives for Gaussian noise, orders 0.01 apart.
    [(0.5, 1e-5, 4.72839), (0.1, 1e-6, 2.14194), (5.0, 1e-5, 19.04729), (0.005, 1e-5, 0.37526)],
)
def test_epsilon_is_that_of_a_known_accountant(rho, delta, accountant):
    epsilon = epsilon_of(rho, delta)

    assert epsilon == pytest.approx(accountant, rel=2e-3)
    assert epsilon < rho + 2 * sqrt(rho * log(1 / delta))


@pytest.mark.attack("F10")
def test_a_ledger_adds_up_and_refuses_what_exceeds_it():
    rounds = [
        Spent(round=Digest(bytes((i,)) * 32), base=BASE, sensitivity=100, deviation=1_000)
        for i in range(3)
    ]
    ledger = PrivacyLedger()
    assert ledger.epsilon(1e-5) == 0

    for number, entry in enumerate(rounds, 1):
        ledger = ledger.spend(entry, delta=1e-5, epsilon_max=1.0)
        assert ledger.rho == pytest.approx(number * 0.005)
    assert ledger.spend(rounds[0], delta=1e-5, epsilon_max=0.1) == ledger
    with pytest.raises(NoiseChanged):
        ledger.spend(replace(rounds[0], deviation=999), delta=1e-5, epsilon_max=1.0)
    large = Spent(round=Digest(b"x" * 32), base=BASE, sensitivity=1, deviation=1)
    with pytest.raises(PrivacySpent) as refused:
        ledger.spend(large, delta=1e-5, epsilon_max=1.0)

    assert refused.value.epsilon > 1.0
