"""Linear models as lists of numbers, and training them on rows of one's own."""

import numpy as np
import pytest

from ml_validator.bundled import LINEAR_NAME, bundled_model
from ml_validator.errors import MalformedArtifact, UnknownSchema, UntrainableData
from ml_validator.features import NSL_KDD_SCHEMA, FeatureSchema
from ml_validator.federated import linear_update
from ml_validator.federated.linear_update import (
    parameter_count,
    read_rows,
    to_model,
    to_parameters,
    train,
)
from ml_validator.linear import Linear
from ml_validator.synthetic import generate_mixture


@pytest.fixture(scope="module")
def bundled():
    model = bundled_model(LINEAR_NAME)[0].model
    assert isinstance(model, Linear)
    return model


@pytest.fixture(scope="module")
def untrained(bundled):
    return to_model(np.zeros(parameter_count(bundled)), base=bundled)


def test_a_model_comes_back_from_its_numbers(bundled):
    numbers = to_parameters(bundled)

    again = to_model(numbers, base=bundled)

    assert numbers.shape == (parameter_count(bundled),) == (bundled.column_count + 1,)
    # A float64 has 53 bits, a weight may have more: far below one part per million either way.
    assert np.allclose(again.weight, bundled.weight, rtol=1e-12, atol=1)
    assert np.array_equal(again.cap, bundled.cap)


def test_a_number_is_the_log_odds_of_its_column_at_its_cap(untrained):
    numbers = np.zeros(parameter_count(untrained))
    numbers[4] = 2.0
    model = to_model(numbers, base=untrained)
    row = np.zeros((1, model.column_count), np.int64)
    row[0, 4] = model.cap[4]

    assert model.scores_ppm(row)[0] == 500_000 + 2 * 25_000


def test_numbers_that_no_model_holds_are_refused(bundled):
    with pytest.raises(MalformedArtifact):
        to_model(np.full(parameter_count(bundled), 2.0**62), base=bundled)


def test_training_finds_the_attacks_of_rows_it_has_not_seen(untrained):
    rows, answers = read_rows(generate_mixture(2_000, 1), base=untrained, schema=NSL_KDD_SCHEMA)
    unseen = generate_mixture(1_000, 2)

    random = np.random.default_rng(3)
    update = train(untrained, rows, answers, steps=200, rate=2.0, random=random)

    model = to_model(to_parameters(untrained) + 200 * update, base=untrained)
    said = model.scores_ppm(NSL_KDD_SCHEMA.rows([record.flow for record in unseen])) > 500_000
    right = said == np.array([record.is_attack for record in unseen])
    assert right.mean() > 0.9


def test_a_shard_of_one_class_trains_too(untrained):
    normal = [record for record in generate_mixture(500, 1) if not record.is_attack]
    rows, answers = read_rows(normal, base=untrained, schema=NSL_KDD_SCHEMA)

    update = train(untrained, rows, answers, steps=5, rate=1.0, random=np.random.default_rng(0))

    assert np.isfinite(update).all()
    assert update[-1] < 0


def test_rows_are_shares_of_the_caps(bundled):
    records = generate_mixture(50, 1)

    rows, answers = read_rows(records, base=bundled, schema=NSL_KDD_SCHEMA)

    assert rows.shape == (len(records), bundled.column_count)
    assert rows.min() >= 0
    assert rows.max() <= 1
    assert set(answers.tolist()) == {0.0, 1.0}


def test_too_many_rows_none_and_those_of_another_schema_are_refused(bundled, monkeypatch):
    other = FeatureSchema(name="other", integers=(), categories=())
    with pytest.raises(UnknownSchema):
        read_rows(generate_mixture(5, 1), base=bundled, schema=other)
    with pytest.raises(UntrainableData, match="no rows"):
        read_rows([], base=bundled, schema=NSL_KDD_SCHEMA)
    monkeypatch.setattr(linear_update, "VALUES_MAX", 4 * bundled.column_count)
    with pytest.raises(UntrainableData, match="more than 4 rows"):
        read_rows(generate_mixture(5, 1), base=bundled, schema=NSL_KDD_SCHEMA)
