import pytest

from ml_validator.nsl_kdd import Record
from ml_validator.report.description import describe
from tests.unit.ml_validator.helpers import make_flow


def make_record(label: str, **columns: int) -> Record:
    return Record(flow=make_flow(**columns), label=label, difficulty=0)


RECORDS = [
    make_record("normal", duration=0, src_bytes=0, serror_rate=100),
    make_record("normal", duration=4, src_bytes=3, serror_rate=0),
    make_record("normal", duration=0, src_bytes=4, serror_rate=100),
    make_record("back", duration=1, src_bytes=1000, serror_rate=0),
]


def test_labels_are_counted_with_the_most_frequent_first():
    kinds = describe(RECORDS).kinds

    assert [(kind.label, kind.family, kind.rows) for kind in kinds] == [
        ("normal", "normal", 3),
        ("back", "dos", 1),
    ]


def test_mean_and_median_of_durations_stand_beside_the_share_without_any():
    normal = describe(RECORDS).kinds[0]

    assert normal.duration_mean_s == pytest.approx(4 / 3)
    assert normal.duration_median_s == 0
    assert normal.without_duration == pytest.approx(2 / 3)
    assert describe(RECORDS).without_duration == 0.5


def test_every_flow_is_in_one_bin_of_bytes():
    volume = describe(RECORDS).volume

    assert volume.edges[:4] == (0, 1, 2, 4)
    assert volume.normal[:4] == (1, 0, 1, 1)
    assert sum(volume.normal) == 3
    assert volume.attack.index(1) == volume.edges.index(512)
    assert volume.percentiles["p100"] == 1000


def test_moments_are_in_the_unit_of_the_column():
    moments = {m.column: m for m in describe(RECORDS).moments}

    assert moments["serror_rate"].mean == 0.5
    assert moments["serror_rate"].variance == 0.25
    assert moments["duration"].mean == 1.25


def test_a_data_set_in_which_nobody_sends_anything_is_described():
    volume = describe([make_record("normal")]).volume

    assert sum(volume.normal) == 1
    assert sum(volume.attack) == 0
