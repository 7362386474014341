"""Forests of many sizes, and choosing among them without the test file."""

import json
from dataclasses import replace

import pytest

from ml_validator import nsl_kdd
from ml_validator.errors import UntrainableData
from ml_validator.left_out import NORMAL_PARTS, TRIALS, Found, make_trials, try_out
from ml_validator.nsl_kdd import TEST_FILE, TRAIN_FILE, Record, file_digest, write_records
from ml_validator.sizes import Size, measure_sizes, summary
from ml_validator.synthetic import generate_mixture
from tests.unit.ml_validator.conftest import SMALL

TYPES = ("back", "neptune", "nmap", "satan", "smurf", "teardrop", "ipsweep", "phf")


def make_records(count: int, *, seed: int) -> list[Record]:
    """Return a mixture in which every synthetic attack has two names."""
    records = generate_mixture(count, seed=seed)
    own = sorted({record.label for record in records if record.is_attack})
    return [
        replace(record, label=TYPES[2 * own.index(record.label) + number % 2])
        if record.is_attack
        else record
        for number, record in enumerate(records)
    ]


RECORDS = make_records(120, seed=31)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Small files that pass for the genuine ones."""
    for seed, name in enumerate((TRAIN_FILE, TEST_FILE)):
        write_records(tmp_path / name, make_records(80, seed=seed))
    digests = {name: file_digest(tmp_path / name) for name in (TRAIN_FILE, TEST_FILE)}
    monkeypatch.setattr(nsl_kdd, "GENUINE_DIGESTS", {**nsl_kdd.GENUINE_DIGESTS, **digests})
    return tmp_path


def test_each_type_is_left_out_once_and_never_known_where_it_is():
    trials = make_trials(RECORDS, seed=4)

    types = {record.label for record in RECORDS if record.is_attack}
    left_out = [{r.label for r in trial.unknown if r.is_attack} for trial in trials]
    assert set.union(*left_out) == types
    assert sum(map(len, left_out)) == len(types)
    for trial, gone in zip(trials, left_out, strict=True):
        assert len(trial.known) + len(trial.unknown) == len(RECORDS)
        assert not gone & {record.label for record in trial.known}


def test_normal_rows_are_on_both_sides_and_only_a_part_is_left_out():
    normal = sum(not record.is_attack for record in RECORDS)

    for trial in make_trials(RECORDS, seed=4):
        gone = sum(not record.is_attack for record in trial.unknown)
        assert 0 < gone < 2 * normal / NORMAL_PARTS + 20


def test_a_stricter_threshold_finds_no_more_and_alarms_no_more():
    strict, loose = try_out(
        make_trials(RECORDS, seed=4), SMALL, false_alarms_ppm=(2_000, 100_000)
    ).values()

    assert strict.by_row <= loose.by_row
    assert strict.by_type <= loose.by_type
    assert strict.false_alarms <= loose.false_alarms
    assert loose.by_row > 0


def test_merit_weighs_what_is_found_against_false_alarms():
    found = Found(by_row=0.9, by_type=0.7, false_alarms=0.1)

    assert found.merit == pytest.approx((0.8 + 0.9) / 2)


def test_too_few_types_cannot_be_left_out():
    few = [record for record in RECORDS if not record.is_attack]

    with pytest.raises(UntrainableData, match=f"{TRIALS} types"):
        make_trials(few, seed=1)


def test_more_trees_and_leaves_take_more_bytes_and_all_is_measured(data):
    told: list[Size] = []
    sizes = measure_sizes(
        data, seed=1, leave_out=True, trees=(4, 8), leaves=(8, 16), on_size=told.append
    )

    assert told == sizes
    assert [(size.trees, size.leaves_max) for size in sizes] == [(4, 8), (4, 16), (8, 8), (8, 16)]
    assert sizes[0].bytes < sizes[1].bytes < sizes[3].bytes
    assert all(size.c_bytes < size.bytes for size in sizes)
    assert all(0 <= size.fpr < 0.5 < size.accuracy <= 1 for size in sizes)
    assert all(size.left_out is not None for size in sizes)
    document = json.loads(json.dumps(summary(sizes, data=data, seed=1)))
    assert sizes[0].left_out is not None
    assert document["sizes"][0]["left_out"]["merit"] == sizes[0].left_out.merit
    assert document["data"][TRAIN_FILE] == file_digest(data / TRAIN_FILE)
