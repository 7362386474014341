"""Tables of flows: what is read, what is refused and how it is named."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_validator import tables
from ml_validator.errors import InvalidDataset, InvalidSchema, MissingDataset, UntrainableData
from ml_validator.table_data import (
    describe,
    flows_for,
    label_rows,
    learn_schema,
    make_dataset,
    split,
)
from ml_validator.tables import Column, Layout, Row, Table, read_table, scaled

COLUMNS = (
    Column(name="dur", kind="decimal", unit="seconds", scale=1000),
    Column(name="proto", kind="category"),
    Column(name="bytes", kind="integer", unit="bytes"),
    Column(name="id", kind="ignored"),
    Column(name="label", kind="label"),
)
LAYOUT = Layout(name="office", columns=COLUMNS, normal=frozenset({"ok"}))
HEADER = "dur,proto,bytes,id,label"


def layout(*changed: Column, **settings) -> Layout:
    by_name = {column.name: column for column in changed}
    parts = {
        "name": "office",
        "columns": tuple(by_name.get(column.name, column) for column in COLUMNS),
        "normal": frozenset({"ok"}),
    }
    return Layout(**(parts | settings))


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a file of these lines."""

    def call(*lines: str, by: Layout = LAYOUT, header: bool = True) -> Table:
        path = tmp_path / "flows.csv"
        rows = (HEADER, *lines) if header else lines
        path.write_bytes("\n".join(rows).encode())
        return read_table(path, by)

    return call


def test_cells_become_integers_categories_and_labels(read):
    table = read("0.0125,tcp,70,x9,ok", "3,udp, 5 ,y,scan")
    assert table.rows == [
        Row(integers=(12, 70), categories=("tcp",), label="normal", family="normal"),
        Row(integers=(3000, 5), categories=("udp",), label="scan", family="scan"),
    ]
    assert (table.read, table.blank, table.missing.total()) == (2, 0, 0)


def test_columns_are_found_by_their_names_in_any_order(read):
    table = read(" label ,id,bytes,proto,dur", "ok,1,2,tcp,3", header=False)
    assert table.rows[0].integers == (3000, 2)


def test_without_a_header_columns_stand_as_in_the_layout(read):
    table = read("1,tcp,2,x,ok", by=layout(header=False), header=False)
    assert table.rows[0].integers == (1000, 2)


def test_quotes_other_separators_and_a_byte_order_mark_are_read(read):
    table = read(
        "\ufeffdur;proto;bytes;id;label",
        '1;"a;b";2;"c""d";ok',
        by=layout(separator=";"),
        header=False,
    )
    assert table.rows[0].categories == ("a;b",)


def test_families_come_from_the_layout(read):
    table = read("1,tcp,2,x,syn", by=layout(families={"syn": "dos"}))
    assert (table.rows[0].label, table.rows[0].family) == ("syn", "dos")


def test_missing_values_are_replaced_and_counted(read):
    hole = Column(name="bytes", kind="integer", missing=frozenset({"nan", "-1"}), when_missing="7")
    table = read("1,tcp,NaN,x,ok", "1,udp,-1,x,ok", by=layout(hole))
    assert [row.integers[1] for row in table.rows] == [7, 7]
    assert table.missing == {"bytes": 2}


def test_rows_that_say_it_again_are_dropped_and_those_that_differ_are_kept(read):
    lines = ("1,tcp,2,x,ok", "1,tcp,2,y,ok", "1,tcp,2,z,scan", "1,tcp,2,z,scan")
    table = read(*lines)
    assert [row.label for row in table.rows] == ["normal", "scan"]
    assert (table.repetitions.duplicates, table.repetitions.contradictions) == (2, 1)
    assert len(read(*lines, by=layout(drops_duplicates=False)).rows) == 4


def test_rows_of_nothing_are_passed_over_and_counted(read):
    table = read("1,tcp,2,x,ok", "", ",,,,", "1,udp,2,x,ok")
    assert (table.read, table.blank) == (2, 2)


@pytest.mark.parametrize(
    ("line", "column", "reason"),
    [
        ("x,tcp,2,i,ok", "dur", "'x' is no number"),
        ("nan,tcp,2,i,ok", "dur", "is no number"),
        ("inf,tcp,2,i,ok", "dur", "is no number"),
        ("-0.5,tcp,2,i,ok", "dur", "is below 0"),
        ("1e300,tcp,2,i,ok", "dur", "times 1000 is above 2**53"),
        ("1,tcp,9007199254740993,i,ok", "bytes", "is above 2**53"),
        ("1,tcp,2.5,i,ok", "bytes", "is no whole number"),
        ("1,tcp,,i,ok", "bytes", "is no number"),
        (f"1,{'é' * 17},2,i,ok", "proto", "longer than 32 bytes"),
        ("1,tcp,2,i,", "label", "the label is missing"),
        ("1,tcp,2,i,Normal", "label", "is not among the normal labels"),
        (f"1,tcp,2,i,{'a' * 33}", "label", "longer than 32 bytes"),
        ("1,tcp,2,i", "row", "4 columns, not 5"),
        ('1,"tcp"x,2,i,ok', "row", "expected after"),
        (f"{'1' * 70_000},tcp,2,i,ok", "row", "longer than"),
        # Each line ends a cell in quotes and opens the next: one row to the end of the file.
        ('"' + '\n","' * 70_000, "row", "longer than"),
        ("1,t\0cp,2,i,ok", "proto", "'t\\x00cp' has control characters"),
        ("1,tcp,2,i,\x1b[31mred", "label", "has control characters"),
    ],
)
def test_a_bad_cell_is_named_by_row_and_column(read, line, column, reason):
    with pytest.raises(InvalidDataset) as caught:
        read("1,tcp,2,i,ok", line)
    assert (caught.value.row, caught.value.column) == (3, column)
    assert caught.value.file.endswith("/flows.csv")
    assert reason in caught.value.reason
    assert "\n" not in str(caught.value)


def test_a_missing_value_without_a_replacement_is_refused(read):
    hole = Column(name="proto", kind="category", missing=frozenset({"-"}))
    with pytest.raises(InvalidDataset, match="row 2, proto: the value is missing"):
        read("1,-,2,x,ok", by=layout(hole))


def test_a_label_of_no_family_is_refused(read):
    with pytest.raises(InvalidDataset, match="row 2, label: 'odd' is in no family"):
        read("1,tcp,2,x,odd", by=layout(families={"syn": "dos"}))


@pytest.mark.parametrize(
    ("header", "column", "reason"),
    [
        ("dur,proto,bytes,id", "label", "no such column"),
        ("dur,proto,bytes,id,label,label", "label", "twice"),
        ("dur,proto,bytes,id,label,more", "column 6", "'more' is not in the schema file"),
        ("", "row", "no header"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(read, header, column, reason):
    with pytest.raises(InvalidDataset) as caught:
        read(header, "1,tcp,2,x,ok", header=False)
    assert (caught.value.row, caught.value.column) == (1, column)
    assert reason in caught.value.reason


def test_columns_that_are_not_listed_may_be_ignored(read):
    table = read(HEADER + ",more", "1,tcp,2,x,ok,!", by=layout(ignores_unlisted=True), header=False)
    assert table.rows[0].integers == (1000, 2)


def test_files_may_lack_labels_where_none_are_asked_for_and_ignored_columns_always(read):
    (row,) = read("dur,proto,bytes", "1,tcp,2", by=LAYOUT.unlabelled(), header=False).rows
    assert (row.integers, row.label) == ((1000, 2), "")
    twice = read("1,tcp,2,x,ok", "1,tcp,2,x,scan", by=LAYOUT.unlabelled())
    assert len(twice.rows) == 2
    assert read("dur,proto,bytes,label", "1,tcp,2,ok", header=False).rows[0].label == "normal"


def test_a_file_without_flows_is_refused(read):
    for lines in ((), ("",)):
        with pytest.raises(InvalidDataset, match="no flows"):
            read(*lines)
    with pytest.raises(InvalidDataset, match="no header"):
        read(header=False)


def test_text_of_another_encoding_and_a_file_that_is_not_there_are_refused(tmp_path):
    path = tmp_path / "flows.csv"
    with pytest.raises(MissingDataset):
        read_table(path, LAYOUT)
    path.write_bytes(HEADER.encode() + b"\n1,tcp,2,x,Attack \x96 XSS\n")
    with pytest.raises(InvalidDataset, match="row 2"):
        read_table(path, LAYOUT)
    assert read_table(path, layout(encoding="cp1252")).rows[0].label == "Attack – XSS"


def test_bounds_on_rows_and_labels_hold(read, monkeypatch):
    monkeypatch.setattr(tables, "ROWS_MAX", 2)
    monkeypatch.setattr(tables, "LABELS_MAX", 2)
    with pytest.raises(InvalidDataset, match="row 4, row: more than 2 rows"):
        read("1,tcp,2,x,ok", "1,tcp,2,x,ok", "1,tcp,2,x,ok")
    monkeypatch.setattr(tables, "ROWS_MAX", 9)
    with pytest.raises(InvalidDataset, match="row 4, row: more than 2 labels"):
        read("1,tcp,2,x,a", "1,tcp,2,x,b", "1,tcp,2,x,c")


@given(st.decimals(0, 10**12, places=9) | st.decimals(0, 10**6), st.sampled_from([1, 100, 10**6]))
def test_scaling_is_that_of_exact_fractions(number, scale):
    exact = Fraction(number) * scale
    read = scaled(str(number), scale)
    assert read == (int(exact), exact.denominator == 1)


@given(st.text(max_size=20))
def test_any_text_is_a_number_or_none(text):
    read = scaled(text, 100)
    if read is not None:
        assert read[0] == int(Decimal(text) * 100) or not read[1]


def row(*integers: int, proto: str = "tcp", label: str = "normal") -> Row:
    return Row(integers=integers, categories=(proto,), label=label, family=label)


def test_categories_are_learned_from_the_most_frequent_down():
    rows = [row(1, 1, proto=proto) for proto in ("b", "b", "c", "a", "c", "d", "")]
    few = layout(Column(name="proto", kind="category", values_max=2))
    assert learn_schema(few, rows).categories[0].values == ("b", "c")
    assert learn_schema(LAYOUT, rows).categories[0].values == ("a", "b", "c", "d")
    known = layout(Column(name="proto", kind="category", values=("z", "b")))
    assert learn_schema(known, rows).categories[0].values == ("z", "b")


def test_a_schema_has_the_columns_and_scales_of_its_layout():
    schema = learn_schema(LAYOUT, [row(1, 1)])
    assert [(c.name, c.unit, c.scale) for c in schema.integers] == [
        ("dur", "seconds", 1000),
        ("bytes", "bytes", 1),
    ]
    assert schema.name == "office"


def test_too_many_columns_are_refused():
    many = tuple(Column(name=f"c{i}", kind="category", values_max=500) for i in range(3))
    rows = [Row(integers=(1,), categories=(str(i),) * 3, label="a", family="a") for i in range(500)]
    wide = Layout(name="wide", columns=(COLUMNS[0], *many, COLUMNS[-1]), normal=frozenset())
    with pytest.raises(InvalidSchema):
        learn_schema(wide, rows)


def test_unknown_categories_are_counted():
    schema = learn_schema(layout(Column(name="proto", kind="category", values=("tcp",))), [])
    rows = [row(1, 1, proto=proto) for proto in ("tcp", "udp", "udp", "sctp")]
    found = describe(schema, label_rows(rows, schema))
    assert found["unknown"] == {"proto": {"rows": 3, "values": 2, "most": ["udp", "sctp"]}}
    assert found["classes"] == {"normal": 4}


rows_of_few_kinds = st.lists(
    st.builds(
        row,
        st.integers(0, 3),
        st.integers(0, 3),
        proto=st.sampled_from(["tcp", "udp"]),
        label=st.sampled_from(["normal", "scan"]),
    ),
    max_size=60,
)


@given(rows_of_few_kinds, st.integers(0, 2**32 - 1))
def test_no_features_are_on_both_sides_of_a_split(rows, seed):
    training, test = split(rows, seed=seed)
    assert not {r.features for r in training} & {r.features for r in test}
    assert sorted(map(repr, (*training, *test))) == sorted(map(repr, rows))


def test_a_split_sets_about_the_stated_share_aside():
    rows = [row(i, 0) for i in range(3000)]
    assert 0.27 < len(split(rows, seed=1)[1]) / 3000 < 0.33
    assert split(rows, seed=1) == split(rows, seed=1) != split(rows, seed=2)


def table(*rows: Row, name: str = "train.csv") -> Table:
    return Table(name=name, digest="ab" * 32, rows=list(rows))


def test_test_rows_that_training_knows_are_left_out():
    training = table(row(1, 1), row(2, 2, label="scan"))
    test = table(row(1, 1, label="scan"), row(3, 3), name="test.csv")
    dataset, found = make_dataset(LAYOUT, training, test)
    assert [record.flow.integers for record in dataset.tests["test.csv"]] == [(3, 3)]
    assert found["test"]["left_out"] == 1
    assert dataset.digests.keys() == {"train.csv", "test.csv"}


def test_rows_become_flows_of_a_model_of_the_same_layout_alone():
    schema = learn_schema(LAYOUT, [row(1, 1)])
    (flow,) = flows_for(schema, LAYOUT, [row(3, 4, proto="gre")])
    assert (flow.schema, flow.integers, flow.categories) == (schema.digest, (3, 4), ("gre",))
    for other in (
        layout(Column(name="dur", kind="decimal", unit="seconds", scale=10)),
        layout(Column(name="proto", kind="ignored")),
    ):
        with pytest.raises(InvalidSchema, match="those of the model"):
            flows_for(schema, other, [])


def test_files_of_one_name_are_told_apart():
    dataset, _ = make_dataset(LAYOUT, table(row(1, 1)), table(row(2, 2)))
    assert dataset.tests.keys() == {"train.csv (test)"}
    assert dataset.digests.keys() == {"train.csv", "train.csv (test)"}


def test_a_test_of_nothing_new_is_refused():
    with pytest.raises(UntrainableData, match="there is no row for the test"):
        make_dataset(LAYOUT, table(row(1, 1)), table(row(1, 1)))


def test_the_schema_is_learned_from_training_rows_alone():
    test = table(row(5, 5, proto="gre"), name="test.csv")
    dataset, found = make_dataset(LAYOUT, table(row(1, 1)), test)
    assert dataset.schema.categories[0].values == ("tcp",)
    assert found["test"]["unknown"]["proto"]["most"] == ["gre"]
