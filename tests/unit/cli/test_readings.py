"""Device data as people give it."""

import json

import pytest

from chain.payloads import FLOW, Measurement
from cli.arguments import FILE_SIZE_MAX
from cli.errors import BadInput
from cli.readings import FLOW_SIZE_MAX, parse_flow_file, parse_readings
from ml_validator.nsl_kdd import to_flow_row, write_records
from ml_validator.synthetic import Profile, generate


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("temperature=21.5C", ("temperature", 215, -1, "C")),
        ("humidity=45%", ("humidity", 45, 0, "%")),
        ("t=-0.25", ("t", -25, -2, "")),
        ("p=1013 hPa", ("p", 1013, 0, "hPa")),
        ("x=+1.50e-3 A", ("x", 150, -5, "A")),
        ("e=3eV", ("e", 3, 0, "eV")),
    ],
)
def test_a_measurement_is_a_name_a_decimal_number_and_a_unit(text, expected):
    name, value, exponent, unit = expected

    (measurement,) = parse_readings([text]).values

    assert measurement == Measurement(name=name, value=value, exponent=exponent, unit=unit)


@pytest.mark.parametrize(
    "text",
    [
        *("temperature", "=5", "t=", "t=C", "t=1e99", "bad name=5", f"t={10**30}"),
        *("t=1" + "u" * 17, "t=" + "9" * 5_000, "t=\N{ARABIC-INDIC DIGIT THREE}"),
    ],
)
def test_what_is_no_measurement_is_told(text):
    with pytest.raises(BadInput):
        parse_readings([text])


def test_a_flow_is_read_from_json_or_from_a_row(tmp_path):
    (record,) = generate(Profile.DNS, 1, seed=1)
    (tmp_path / "flow.json").write_text(json.dumps(FLOW.render(record.flow)))
    write_records(tmp_path / "flow.txt", [record])

    assert parse_flow_file(tmp_path / "flow.json") == record.flow
    assert parse_flow_file(tmp_path / "flow.txt") == record.flow


def test_a_row_of_a_file_of_flows_is_chosen_by_its_number(tmp_path):
    records = generate(Profile.DNS, 3, seed=1)
    flows = [record.flow for record in records]
    rendered = [FLOW.render(flow) for flow in flows]
    write_records(tmp_path / "labelled.txt", records)
    (tmp_path / "bare.csv").write_text("".join(to_flow_row(flow) + "\n" for flow in flows))
    (tmp_path / "flows.jsonl").write_text("".join(json.dumps(flow) + "\n" for flow in rendered))
    for name in ("labelled.txt", "bare.csv", "flows.jsonl"):
        assert [parse_flow_file(tmp_path / name, row) for row in (1, 2, 3)] == flows
        with pytest.raises(BadInput, match="has no row 4; its last is 3"):
            parse_flow_file(tmp_path / name, 4)

    (tmp_path / "printed.json").write_text(json.dumps(rendered[0], indent=2))
    assert parse_flow_file(tmp_path / "printed.json") == flows[0]
    with pytest.raises(BadInput, match="has no row 2; its last is 1"):
        parse_flow_file(tmp_path / "printed.json", 2)


@pytest.mark.parametrize("content", ["", "{", '{"integers": []}', '{"a":' * 100_000])
def test_a_file_that_is_no_flow_is_told(tmp_path, content):
    (tmp_path / "flow").write_text(content)

    with pytest.raises(BadInput):
        parse_flow_file(tmp_path / "flow")


def test_of_a_large_file_no_more_is_read_than_up_to_the_row(tmp_path):
    (record,) = generate(Profile.DNS, 1, seed=1)
    row = json.dumps(FLOW.render(record.flow)) + "\n"
    with (tmp_path / "flows.jsonl").open("w") as file:
        # Larger than what a command reads of any other file; the end is no flow.
        for _ in range(FILE_SIZE_MAX // len(row) // 100 + 1):
            file.write(row * 100)
        file.write("x" * (FLOW_SIZE_MAX + 1))
    rows = 100 * (FILE_SIZE_MAX // len(row) // 100 + 1)

    assert parse_flow_file(tmp_path / "flows.jsonl", rows) == record.flow
    with pytest.raises(BadInput, match="a flow of more than 65536 bytes"):
        parse_flow_file(tmp_path / "flows.jsonl", rows + 1)


@pytest.mark.parametrize("content", ["x" * (FLOW_SIZE_MAX + 1), "{\n" + " " * FLOW_SIZE_MAX])
def test_what_is_larger_than_any_flow_is_not_read(tmp_path, content):
    (tmp_path / "flow").write_text(content)

    with pytest.raises(BadInput, match="a flow of more than 65536 bytes"):
        parse_flow_file(tmp_path / "flow")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        parse_flow_file(tmp_path / "absent.json")
