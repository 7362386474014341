import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_validator import nsl_kdd
from ml_validator.errors import AlteredDataset, InvalidDataset, MissingDataset
from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.nsl_kdd import (
    COLUMNS,
    FAMILIES,
    TEST_FILE,
    TEST_ONLY_FAMILIES,
    TRAINING_FAMILIES,
    Record,
    check_genuine,
    file_digest,
    read_attack_types,
    read_flows,
    read_records,
    to_row,
    write_records,
)
from ml_validator.synthetic import Profile, generate, generate_mixture

ROW = to_row(generate(Profile.BROWSING, 1, seed=0)[0])


def with_cell(column: str, text: str) -> str:
    cells = ROW.split(",")
    cells[COLUMNS.index(column)] = text
    return ",".join(cells)


def read(tmp_path, *lines: str, end: str = "\n") -> list[Record]:
    path = tmp_path / "rows.txt"
    path.write_bytes("".join(line + end for line in lines).encode())
    return list(read_records(path))


def test_a_row_of_the_published_form_is_read_column_by_column(tmp_path):
    line = (
        "0,udp,other,SF,146,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,13,1,0.00,0.00,0.00,0.00,0.08,0.15,"
        "0.00,255,1,0.00,0.60,0.88,0.00,0.00,0.00,0.00,0.00,normal,15"
    )
    (record,) = read(tmp_path, line)
    names = [c.name for c in NSL_KDD_SCHEMA.integers]
    values = {n: v for n, v in zip(names, record.flow.integers, strict=True) if v}
    assert values == {
        "src_bytes": 146,
        "count": 13,
        "srv_count": 1,
        "same_srv_rate": 8,
        "diff_srv_rate": 15,
        "dst_host_count": 255,
        "dst_host_srv_count": 1,
        "dst_host_diff_srv_rate": 60,
        "dst_host_same_src_port_rate": 88,
    }
    assert record.flow.categories == ("udp", "other", "SF")
    assert record.flow.schema == NSL_KDD_SCHEMA.digest
    assert (record.label, record.family, record.difficulty) == ("normal", "normal", 15)
    assert to_row(record) == line


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_is_understood(tmp_path, end):
    assert len(read(tmp_path, ROW, ROW, ROW, end=end)) == 3


def test_a_last_line_without_end_is_read(tmp_path):
    assert len(read(tmp_path, ROW, end="")) == 1


def test_written_records_are_read_back_equal(tmp_path):
    records = generate_mixture(20, seed=5)
    write_records(tmp_path / "rows.txt", records)
    assert list(read_records(tmp_path / "rows.txt")) == records


@given(st.integers(0, 10**13))
def test_hundredths_keep_every_digit(value):
    text = f"{value // 100}.{value % 100:02d}"
    assert nsl_kdd._hundredths(text) == value


@pytest.mark.parametrize(("text", "value"), [("1", 100), ("0.5", 50), ("0.05", 5), ("1.00", 100)])
def test_rates_are_read_with_up_to_two_places(tmp_path, text, value):
    (record,) = read(tmp_path, with_cell("serror_rate", text))
    index = [c.name for c in NSL_KDD_SCHEMA.integers].index("serror_rate")
    assert record.flow.integers[index] == value


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("duration", ""),
        ("duration", "-1"),
        ("duration", "1.5"),
        ("src_bytes", "many"),
        ("src_bytes", "9" * 16),
        ("dst_bytes", " 5"),
        ("dst_bytes", "٣"),
        ("serror_rate", "0.123"),
        ("serror_rate", "nan"),
        ("serror_rate", "1.01"),
        ("dst_host_srv_rerror_rate", "1e2"),
        ("land", "2"),
        ("service", ""),
        ("service", "ht tp"),
        ("flag", "S" * 33),
        ("label", "Normal"),
        ("label", ""),
        ("difficulty", "22"),
        ("difficulty", "x"),
    ],
)
def test_a_bad_cell_is_named_by_file_row_and_column(tmp_path, column, text):
    if not text.isascii():
        with pytest.raises(InvalidDataset, match="row 2, row: no ASCII"):
            read(tmp_path, ROW, with_cell(column, text), ROW)
        return
    with pytest.raises(InvalidDataset) as caught:
        read(tmp_path, ROW, with_cell(column, text), ROW)
    error = caught.value
    assert (error.file, error.row, error.column) == (str(tmp_path / "rows.txt"), 2, column)


@pytest.mark.parametrize("line", ["", ROW + ",1", ROW.rpartition(",")[0], "normal"])
def test_a_row_with_another_number_of_columns_is_refused(tmp_path, line):
    with pytest.raises(InvalidDataset) as caught:
        read(tmp_path, ROW, line)
    assert (caught.value.row, caught.value.column) == (2, "row")


def test_a_line_without_end_is_not_read_into_memory(tmp_path):
    with pytest.raises(InvalidDataset, match="longer than 1024"):
        read(tmp_path, "1" * 5000)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "rows.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidDataset) as caught:
        list(read_records(tmp_path / "rows.txt"))
    assert caught.value.row == 1


def test_rows_above_the_bound_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(nsl_kdd, "ROWS_MAX", 2)
    with pytest.raises(InvalidDataset) as caught:
        read(tmp_path, ROW, ROW, ROW)
    assert caught.value.row == 3


@pytest.mark.parametrize("read_file", [lambda p: list(read_records(p)), file_digest])
def test_a_missing_file_is_named(tmp_path, read_file):
    with pytest.raises(MissingDataset) as caught:
        read_file(tmp_path / "KDDTrain+.txt")
    assert caught.value.file == str(tmp_path / "KDDTrain+.txt")


def test_a_file_without_rows_is_named(tmp_path):
    (tmp_path / "rows.txt").touch()

    for read in (read_records, read_flows):
        with pytest.raises(MissingDataset, match=r"/rows\.txt: there are no rows in it"):
            list(read(tmp_path / "rows.txt"))


def test_an_altered_file_is_not_taken_for_the_genuine_one(tmp_path):
    (tmp_path / TEST_FILE).write_text(ROW + "\n")
    with pytest.raises(AlteredDataset) as caught:
        check_genuine(tmp_path / TEST_FILE)
    assert caught.value.found == file_digest(tmp_path / TEST_FILE)


def test_a_file_of_another_name_is_never_genuine(tmp_path):
    (tmp_path / "KDDTrain.txt").write_text(ROW + "\n")
    with pytest.raises(MissingDataset):
        check_genuine(tmp_path / "KDDTrain.txt")


def test_labels_are_23_in_training_and_17_more_in_the_test():
    assert len(TRAINING_FAMILIES) == 23
    assert len(TEST_ONLY_FAMILIES) == 17
    assert not TRAINING_FAMILIES.keys() & TEST_ONLY_FAMILIES.keys()
    assert [label for label, family in FAMILIES.items() if family == "normal"] == ["normal"]


def test_attack_types_are_read_with_carriage_returns(tmp_path):
    (tmp_path / "types.csv").write_bytes(b"back,dos\rnormal,normal\rperl,u2r")
    assert read_attack_types(tmp_path / "types.csv") == {
        "back": "dos",
        "normal": "normal",
        "perl": "u2r",
    }


@pytest.mark.parametrize("text", ["back", "back,dos,x", "back,", "back,dos\rback,dos"])
def test_bad_attack_types_are_refused(tmp_path, text):
    (tmp_path / "types.csv").write_text(text)
    with pytest.raises(InvalidDataset):
        read_attack_types(tmp_path / "types.csv")


def test_the_genuine_files_have_their_digests_and_rows(nsl_kdd_folder):
    for name in nsl_kdd.GENUINE_DIGESTS:
        check_genuine(nsl_kdd_folder / name)
    lines = (nsl_kdd_folder / TEST_FILE).read_text().splitlines()
    records = list(read_records(nsl_kdd_folder / TEST_FILE))
    assert len(records) == 22_544
    assert [to_row(record) for record in records] == lines
    labels = {record.label for record in records}
    assert set(TEST_ONLY_FAMILIES) <= labels


def test_the_genuine_attack_types_are_those_we_know(nsl_kdd_folder):
    types = read_attack_types(nsl_kdd_folder / "Attack Types.csv")
    assert types == {**TRAINING_FAMILIES, "unknown": "unknown"}
