import hashlib

import pytest

from ml_validator.bundled import bundled_model
from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.nsl_kdd import read_records, to_row, write_records
from ml_validator.synthetic import (
    ATTACK_PROFILES,
    COUNT_MAX,
    LABELS,
    NORMAL_PROFILES,
    Profile,
    generate,
    generate_mixture,
)
from ml_validator.training import judge

COLUMN = {column.name: i for i, column in enumerate(NSL_KDD_SCHEMA.integers)}


@pytest.mark.parametrize("profile", Profile)
def test_rows_depend_on_profile_seed_and_place_alone(profile):
    rows = generate(profile, 50, seed=4)
    assert generate(profile, 50, seed=4) == rows
    assert generate(profile, 20, seed=4) == rows[:20]
    assert generate(profile, 50, seed=5) != rows


def test_the_generator_makes_the_same_rows_on_every_machine():
    text = "\n".join(map(to_row, generate_mixture(25, seed=1)))
    assert hashlib.sha256(text.encode()).hexdigest() == (
        "aabbe0963f458954e6d5444bbf40f5359a6ff16053634732c21b3dba8ac29205"
    )


@pytest.mark.parametrize("profile", Profile)
def test_rows_are_written_and_read_back_equal(tmp_path, profile):
    records = generate(profile, 40, seed=3)
    write_records(tmp_path / "rows.txt", records)
    assert list(read_records(tmp_path / "rows.txt")) == records


@pytest.mark.parametrize("profile", Profile)
def test_values_are_within_what_the_columns_mean(profile):
    for record in generate(profile, 300, seed=8):
        flow = record.flow
        assert record.label == LABELS[profile]
        for name, known in zip(flow.categories, NSL_KDD_SCHEMA.categories, strict=True):
            assert name in known.values
        for column, value in zip(NSL_KDD_SCHEMA.integers, flow.integers, strict=True):
            bound = {"rate": 100, "flag": 1}.get(column.unit, 10**6)
            assert 0 <= value <= bound, column.name
        assert flow.integers[COLUMN["count"]] <= 511
        assert flow.integers[COLUMN["srv_count"]] <= 511
        assert flow.integers[COLUMN["dst_host_count"]] <= 255
        assert 1 <= flow.integers[COLUMN["dst_host_srv_count"]] <= 255


def test_profiles_are_normal_or_attacks():
    assert set(NORMAL_PROFILES) | set(ATTACK_PROFILES) == set(Profile)
    assert set(ATTACK_PROFILES) == {Profile.FLOOD, Profile.PROBE, Profile.LOGIN_GUESSING}


@pytest.mark.parametrize("count", [-1, COUNT_MAX + 1])
def test_a_count_out_of_range_is_refused(count):
    with pytest.raises(ValueError, match="count"):
        generate(Profile.DNS, count, seed=1)


@pytest.mark.parametrize("profile", ATTACK_PROFILES)
def test_the_bundled_model_finds_synthetic_attacks(profile):
    artifact, _ = bundled_model()
    assert judge(artifact, generate(profile, 500, seed=11)).recall_ppm > 950_000


@pytest.mark.parametrize("profile", NORMAL_PROFILES)
def test_the_bundled_model_leaves_synthetic_devices_far_from_quarantine(profile):
    # 30 of the last 100 judged flows quarantine a device.
    artifact, _ = bundled_model()
    assert judge(artifact, generate(profile, 500, seed=12)).false_positive_rate_ppm < 170_000
