import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from ml_validator.artifact import load_artifact
from ml_validator.errors import UntrainableData
from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.linear import EVEN_PPM, PPM_PER_LOGIT
from ml_validator.linear_training import fit_and_pack, fit_linear, pack_linear
from ml_validator.synthetic import Profile, generate, generate_mixture
from ml_validator.training import judge

FALSE_ALARMS_PPM = 20_000


@pytest.fixture(scope="module")
def trained(small_records):
    return fit_linear(small_records, seed=3, false_alarms_ppm=FALSE_ALARMS_PPM)


def test_packed_scores_are_the_log_odds_of_scikit_learn():
    random = np.random.default_rng(6)
    rows = random.integers(0, 500, (300, 5))
    attacks = rows[:, 0] + random.integers(0, 200, 300) > rows[:, 1] + 100
    cap = np.array([500, 500, 400, 1, 0], np.int32)
    capped = np.minimum(rows, cap).astype(float)
    mean, spread = capped.mean(axis=0), np.maximum(capped.std(axis=0), 1e-9)
    classifier = LogisticRegression().fit((capped - mean) / spread, attacks)

    packed = pack_linear(classifier, mean=mean, spread=spread, cap=cap).scores_ppm(rows)

    theirs = classifier.decision_function((capped - mean) / spread)
    assert np.abs(packed - (EVEN_PPM + theirs * PPM_PER_LOGIT)).max() <= 2
    assert (np.abs(theirs) > 1).any()


def test_a_linear_model_tells_synthetic_attacks_from_normal_flows(trained):
    evaluation = judge(trained.artifact, generate_mixture(100, seed=77))
    assert evaluation.recall_ppm > 950_000
    assert evaluation.false_positive_rate_ppm < 60_000
    assert trained.out_of_bag.false_positive_rate_ppm <= FALSE_ALARMS_PPM


def test_a_linear_model_made_here_is_one_that_loads(trained):
    assert load_artifact(trained.artifact.data).digest == trained.artifact.digest
    assert len(trained.artifact.data) < 4_096


def test_equal_seeds_make_equal_linear_models(trained, small_records):
    again = fit_linear(small_records, seed=3, false_alarms_ppm=FALSE_ALARMS_PPM)
    assert again.artifact.digest == trained.artifact.digest


def test_one_value_out_of_all_bounds_does_not_rule_the_score(small_records):
    rows = NSL_KDD_SCHEMA.rows([record.flow for record in small_records])
    model = fit_and_pack(rows, np.array([record.is_attack for record in small_records]))
    wild = rows.copy()
    wild[:, 1] = 2**62
    at_cap = rows.copy()
    at_cap[:, 1] = model.cap[1]
    assert model.scores_ppm(wild).tolist() == model.scores_ppm(at_cap).tolist()


@pytest.mark.parametrize("profile", [Profile.DNS, Profile.FLOOD])
def test_rows_of_one_kind_train_no_linear_model(profile):
    with pytest.raises(UntrainableData):
        fit_linear(generate(profile, 20, seed=1), seed=1)
