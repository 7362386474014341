"""What participants do with their rows, and what becomes of the common model."""

import math

import numpy as np
import pytest

from ml_validator.errors import UntrainableData
from ml_validator.federated.adaptation import (
    STEPS_MAX,
    STEPS_MIN,
    Pace,
    first_pace,
    local_steps,
    stale_weight,
)
from ml_validator.federated.aggregation import Rule
from ml_validator.federated.comparison import score_forest, score_of
from ml_validator.federated.federation import Plan, Poison, group_indices, learn, masked_group
from ml_validator.federated.fixed_point import UpdateRules, divided, prepared
from ml_validator.federated.forests import grow_forest, merge, submitted
from ml_validator.federated.group_sum import group_mean
from ml_validator.federated.heterogeneity import (
    BLOCK_MS,
    Participant,
    adaptive_ms,
    synchronous_ms,
)
from ml_validator.federated.local_training import Network, train
from ml_validator.federated.partition import dirichlet_shards
from ml_validator.federated.server_optimisers import FedAdam, FedAvg, Scaffold, next_control
from ml_validator.federated.task import FAMILY_NAMES, make_task
from ml_validator.synthetic import generate_mixture

CLIENTS = 5


def seeded(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def task():
    return make_task(generate_mixture(150, seed=3), clients=CLIENTS, alpha=1.0, seed=4)


def network_for(task, hidden: int = 0) -> Network:
    inputs = task.hold_out.scaled.shape[1]
    return Network(inputs=inputs, classes=len(FAMILY_NAMES), hidden=hidden)


# --- shards ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.1, 0.5, 100.0])
def test_each_row_goes_to_one_organisation(alpha):
    classes = np.repeat(np.arange(4), 250)

    shards = dirichlet_shards(classes, clients=6, alpha=alpha, random=seeded())

    assert np.sort(np.concatenate(shards)).tolist() == list(range(1000))
    assert min(map(len, shards)) >= 20


def test_a_small_alpha_makes_organisations_differ():
    classes = np.repeat(np.arange(4), 250)

    def largest_share(alpha):
        shards = dirichlet_shards(classes, clients=5, alpha=alpha, random=seeded())
        return np.mean([np.bincount(classes[s], minlength=4).max() / len(s) for s in shards])

    assert largest_share(100.0) < 0.4 < 0.6 < largest_share(0.1)


def test_equal_seeds_deal_equally():
    classes = np.repeat(np.arange(4), 250)

    first, second = (
        dirichlet_shards(classes, clients=5, alpha=0.5, random=seeded(9)) for _ in range(2)
    )

    assert all(a.tolist() == b.tolist() for a, b in zip(first, second, strict=True))


def test_too_few_rows_are_not_dealt():
    with pytest.raises(UntrainableData, match="cannot be dealt"):
        dirichlet_shards(np.zeros(99, np.intp), clients=5, alpha=0.5, random=seeded())


def test_nobody_has_a_row_of_the_hold_out(task):
    records = generate_mixture(150, seed=3)
    everything = task.everything

    assert len(everything) + len(task.public) + len(task.hold_out) == len(records)
    assert len(task.clients) == CLIENTS
    assert np.abs(everything.scaled).max() <= 8.0


# --- local training -------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [0, 7])
def test_the_gradient_is_that_of_the_mean_cross_entropy(hidden):
    random = seeded()
    network = Network(inputs=5, classes=3, hidden=hidden)
    rows = random.normal(size=(20, 5)).astype(np.float32)
    classes = random.integers(3, size=20)
    model = random.normal(scale=0.5, size=network.parameters).astype(np.float32)

    def loss(values):
        *_, logits = network._forward(values, rows.astype(np.float64))
        logits = logits - logits.max(axis=1, keepdims=True)
        chosen = logits[np.arange(20), classes] - np.log(np.exp(logits).sum(axis=1))
        return -chosen.mean()

    wide = model.astype(np.float64)
    numeric = np.array(
        [(loss(wide + step) - loss(wide - step)) / 2e-4 for step in np.eye(len(wide)) * 1e-4]
    )
    assert np.abs(network.gradient(model, rows, classes) - numeric).max() < 1e-3


@pytest.mark.parametrize("hidden", [0, 32])
def test_training_learns_the_rows(task, hidden):
    network = network_for(task, hidden)
    part = task.everything
    start = network.start(seeded())

    end = train(network, start, part.scaled, part.classes, steps=300, rate=0.3, random=seeded())

    assert network.parameters == len(start) == len(end)
    assert score_of(network, end, part).accuracy > 0.97
    assert score_of(network, start, part).accuracy < 0.9


def test_training_leaves_the_model_it_started_from_alone(task):
    network = network_for(task)
    start = network.start(seeded())
    part = task.clients[0]

    train(network, start, part.scaled, part.classes, steps=3, rate=0.3, random=seeded())

    assert not start.any()


# --- the common model -----------------------------------------------------------------------------


def test_fedavg_goes_where_the_participants_went():
    assert FedAvg().step(np.array([1.0, 2.0]), np.array([0.5, -1.0])).tolist() == [1.5, 1.0]


def test_fedadam_is_its_formula_to_the_bit():
    optimiser = FedAdam(rate=0.1)
    model, first, second = [0.3, -0.7], [0.0, 0.0], [0.0, 0.0]
    moved = np.array(model)
    for aggregate in ([0.25, -0.125], [1e-3, 3e-5], [-0.7, 1 / 3]):
        moved = optimiser.step(moved, np.array(aggregate))
        for i, value in enumerate(aggregate):
            first[i] = 0.9 * first[i] + (1 - 0.9) * value
            second[i] = 0.99 * second[i] + (1 - 0.99) * value * value
            model[i] = model[i] + 0.1 * first[i] / (math.sqrt(second[i]) + 1e-3)

    assert moved.tolist() == model


def test_scaffold_takes_a_common_drift_out_of_local_steps():
    scaffold = Scaffold(parameters=2)
    own, common = np.zeros(2), scaffold.common
    change = np.array([-4.0, 2.0])

    control = next_control(own, common, change, steps=10, rate=0.1)
    model = scaffold.step(np.zeros(2), np.concatenate((change, control - own)))

    assert control.tolist() == [4.0, -2.0]  # the mean gradient of the steps
    assert scaffold.common.tolist() == [4.0, -2.0]
    assert model.tolist() == [-4.0, 2.0]


# --- the pace -------------------------------------------------------------------------------------


def test_steps_fit_into_four_fifths_of_the_time():
    pace = Pace(way_us=200_000, step_us=50_000)

    assert local_steps(pace, deadline_ms=1_500) == (1_200 - 200) // 50


def test_steps_stay_within_their_bounds():
    assert local_steps(Pace(way_us=0, step_us=1), deadline_ms=1_500) == STEPS_MAX
    assert local_steps(Pace(way_us=10_000_000, step_us=1), deadline_ms=1_500) == STEPS_MIN


def test_a_pace_is_learnt_from_block_times_and_follows_changes_slowly():
    first = first_pace(joined_after_ms=400, committed_after_ms=2_400, steps=10)
    later = first.seen(joined_after_ms=800, committed_after_ms=800, steps=10)

    assert first == Pace(way_us=400_000, step_us=200_000)
    assert later.way_us == 500_000
    assert 100_000 <= later.step_us < 200_000


def test_a_participant_that_seems_to_need_no_time_divides_by_nothing():
    pace = first_pace(joined_after_ms=400, committed_after_ms=100, steps=10)

    assert local_steps(pace.seen(joined_after_ms=0, committed_after_ms=0, steps=1), deadline_ms=9)


def test_stale_updates_weigh_less():
    assert [stale_weight(staleness) for staleness in range(4)] == [1000, 707, 577, 500]
    assert stale_weight(10**9) == 1


def test_adapting_to_uneven_speed_reaches_the_target_sooner(task):
    network = network_for(task)
    participants = [
        Participant(step_ms=step, way_ms=100.0) for step in (5.0, 10.0, 20.0, 50.0, 100.0)
    ]
    synchronous, adaptive = (
        run(
            task.clients, participants, network, task.hold_out,
            target=0.97, random=seeded(),
        )
        for run in (synchronous_ms, adaptive_ms)
    )  # fmt: skip

    assert synchronous is not None
    assert adaptive is not None
    assert adaptive < synchronous
    assert synchronous % BLOCK_MS == 0


# --- rounds ---------------------------------------------------------------------------------------


def test_a_group_behind_masks_has_the_mean_of_its_survivors():
    rules = UpdateRules(parameters=6, fraction_bits=24, norm_max=2**30, weight_total=8)
    updates = {i: prepared(seeded(i).normal(size=6), rules=rules) for i in range(7)}

    given = masked_group(updates, range(8), index=0, number=3, random=seeded())

    mean = group_mean(given, weights=dict.fromkeys(given.group.members, 1), rules=rules)
    assert mean.tolist() == divided(np.sum(list(updates.values()), axis=0), 7).tolist()


def test_groups_are_as_many_as_their_size_allows():
    groups = group_indices(10, size=3, random=seeded())

    assert sorted(map(len, groups)) == [3, 3, 4]
    assert np.sort(np.concatenate(groups)).tolist() == list(range(10))


@pytest.mark.parametrize(
    "plan",
    [
        {"group_size": CLIENTS, "masks": True},
        {"group_size": 2, "rule": Rule.TRIMMED_MEAN},
        {"optimiser": FedAvg},
        {"scaffold": True},
        {"hidden": 8},
    ],
    ids=str,
)
def test_organisations_learn_together(task, plan):
    network = network_for(task, plan.pop("hidden", 0))
    if plan.pop("scaffold", False):
        plan["optimiser"] = lambda: Scaffold(parameters=network.parameters)

    outcome = learn(
        task.clients, Plan(network=network, rounds=8, steps=30, **plan), random=seeded()
    )

    assert len(outcome.models) == 8
    assert outcome.bytes_moved >= 8 * CLIENTS * 2 * 8 * network.parameters
    assert score_of(network, outcome.model, task.hold_out).accuracy > 0.95


@pytest.mark.attack("F1")
@pytest.mark.parametrize("poison", [Poison.SIGN_FLIP, Poison.LABEL_FLIP])
def test_a_poisoned_update_is_left_out_in_the_audit_mode_and_spoils_a_mean(task, poison):
    network = network_for(task)

    def accuracy(rule, attackers):
        plan = Plan(network=network, rounds=8, steps=30, rule=rule, attackers=attackers)
        outcome = learn(task.clients, plan, random=seeded(), poison={1: poison})
        return score_of(network, outcome.model, task.hold_out).accuracy

    guarded, trusting = accuracy(Rule.MULTI_KRUM, 1), accuracy(Rule.MEAN, 0)

    assert guarded > 0.95
    assert guarded > trusting


@pytest.mark.attack("F1")
@pytest.mark.parametrize("poison", [Poison.GAUSSIAN, Poison.LITTLE])
@pytest.mark.parametrize("rule", [Rule.MEDIAN, Rule.TRIMMED_MEAN, Rule.MULTI_KRUM])
def test_noise_and_what_hides_among_honest_updates_do_little(task, rule, poison):
    network = network_for(task)

    def accuracy(spoiled):
        plan = Plan(network=network, rounds=8, steps=30, rule=rule, attackers=1)
        outcome = learn(task.clients, plan, random=seeded(), poison=spoiled)
        return score_of(network, outcome.model, task.hold_out).accuracy

    assert accuracy({1: poison}) > accuracy({}) - 0.05


@pytest.mark.attack("F1")
def test_flipped_forests_stay_out_of_the_union(task):
    forests = [
        grow_forest(part, trees=5, seed=index, flipped=index == 1)
        for index, part in enumerate(task.clients)
    ]

    union, kept = merge(forests, task.public)

    assert submitted(forests[1]).digest not in kept
    assert score_forest(union, task.hold_out).accuracy > 0.9


def test_an_organisation_that_has_seen_no_attack_calls_nothing_one(task):
    rows = task.everything
    normal = rows.take(np.flatnonzero(~rows.attacks))

    forest = grow_forest(normal, trees=5, seed=1)

    assert forest.tree_count == 1
    assert not forest.votes(rows.integers).any()
