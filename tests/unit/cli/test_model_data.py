"""``securenet model data check``, and training on data of another layout than NSL-KDD."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from chain.payloads import Flow
from cli.data_schema import load_schema_file
from cli.errors import BadInput
from cli.exit_codes import ExitCode
from cli.readings import parse_flow_file
from ml_validator import Detector, load_artifact, load_manifest, nsl_kdd
from ml_validator.features import decode_schema
from ml_validator.nsl_kdd import TRAIN_FILE, file_digest, write_records
from ml_validator.synthetic import generate_mixture
from ml_validator.table_data import learn_schema
from tests.tidy.tree import ROOT

PAGE = (ROOT / "docs/data.md").read_text(encoding="utf-8")
EXAMPLES = {
    tomllib.loads(text)["name"]: text
    for text in re.findall(r"^```toml\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
}
"""The schema files that the page shows."""

SMALL = """
name = "office"
missing = ["-"]
columns = [
  { name = "dur", kind = "decimal", unit = "seconds", scale = 1000 },
  { name = "proto", kind = "category" },
  { name = "bytes", kind = "integer", unit = "bytes", when_missing = 0 },
  { name = "kind", kind = "label" },
]
[labels]
normal = ["ok"]
families = { dos = ["flood", "smurf"], probe = ["scan"] }
"""


def small_rows(count: int, *, first: int = 0, attacks=("flood", "scan")) -> str:
    """Make flows that a detector can tell apart: attacks are short and small."""
    lines = ["dur,proto,bytes,kind"]
    for i in range(first, first + count):
        lines.append(f"{1 + i % 97}.{i % 1000:03d},tcp,{500 + i},ok")
        attack = attacks[i % len(attacks)]
        lines.append(f"0.{i % 1000:03d},{'udp' if i % 2 else 'icmp'},{i % 40},{attack}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def files(tmp_path):
    """Return a folder with a schema file, training rows and test rows."""
    (tmp_path / "flows.toml").write_text(SMALL)
    (tmp_path / "train.csv").write_text(small_rows(300))
    (tmp_path / "test.csv").write_text(
        small_rows(100, first=400, attacks=("flood", "smurf")) + "1,gre,-,ok\n"
    )
    return tmp_path


def value_of(column: dict[str, Any], number: int) -> str:
    """Return a cell that a column of a schema file takes."""
    if column["kind"] in ("integer", "decimal"):
        missing = column.get("missing", ["NaN"])
        holds_missing = "when_missing" in column and number % 3 == 0
        return (
            str(missing[0]) if holds_missing else f"{number}" + ".5" * (column["kind"] == "decimal")
        )
    return "tcp" if number % 2 else "-"


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_schema_files_of_the_page_read_files_of_their_kind(securenet, tmp_path, name):
    document = tomllib.loads(EXAMPLES[name])
    (tmp_path / "schema.toml").write_text(EXAMPLES[name], encoding="utf-8")
    (attacks, *_) = document["labels"]["families"].values()
    labels = [document["labels"]["normal"][0], attacks[0]]
    names = [column["name"] for column in document["columns"]]
    unlisted = ["Idle Min"] if document.get("unlisted") == "ignore" else []
    lines = [",".join([*names, *unlisted])]
    for number in range(12):
        cells = [
            labels[number % 2] if column["kind"] == "label" else value_of(column, number)
            for column in document["columns"]
        ]
        lines.append(",".join([*cells, *unlisted]))
    (tmp_path / "flows.csv").write_text("\n".join(lines))

    ended = securenet(
        *("model", "data", "check", tmp_path / "flows.csv"),
        *("--schema", tmp_path / "schema.toml", "--json"),
    )

    assert ended.code == ExitCode.OK, ended.err
    (facts,) = ended.document["files"]
    assert facts["rows"] == 12
    assert facts["classes"] == {"normal": 6, attacks[0]: 6}
    replaced = [c["name"] for c in document["columns"] if "when_missing" in c]
    assert facts["missing"] == dict.fromkeys(replaced, 4)


def test_the_page_shows_both_kinds_of_files():
    assert set(EXAMPLES) == {"unsw-nb15", "cicflowmeter"}


def test_people_are_told_what_a_file_holds(securenet, files):
    ended = securenet(
        "model", "data", "check", files / "test.csv", "--schema", files / "flows.toml"
    )

    assert ended.code == ExitCode.OK
    assert re.search(r"rows +201", ended.out)
    assert re.search(r"smurf +50", ended.out)
    assert '{"bytes": 1}' in ended.out


def test_models_of_other_data_judge_its_flows_and_bring_their_schema(securenet, files):
    out = files / "models"

    ended = securenet(
        *("model", "train", "--schema", files / "flows.toml", "--data", files / "train.csv"),
        *("--test", files / "test.csv", "--out", out, "--seed", 5, "--json"),
    )

    assert ended.code == ExitCode.OK, ended.err
    kinds = ("forest-low-false-alarm", "forest", "forest-small", "linear")
    names = [f"office-{kind}" for kind in kinds]
    assert [made["name"] for made in ended.document] == names
    for name in names:
        artifact = load_artifact((out / f"{name}.safetensors").read_bytes())
        manifest = load_manifest((out / f"{name}.json").read_bytes())
        manifest.check(artifact)
        assert manifest.measured["test.csv"]["unseen_rows"] == 50
        assert artifact.schema.column_names == (
            *("dur", "bytes", "proto=icmp", "proto=tcp", "proto=udp"),
        )
        quiet, flood = (
            Flow(schema=artifact.schema.digest, integers=integers, categories=(proto,))
            for integers, proto in (((50_000, 600), "tcp"), ((100, 20), "udp"))
        )
        scores = Detector(artifact).judge([quiet, flood])
        assert [score >= artifact.threshold_ppm for score in scores] == [False, True]


def test_a_kind_that_there_is_not_is_refused(securenet, files):
    out = files / "models"

    ended = securenet(
        *("model", "train", "--schema", files / "flows.toml", "--data", files / "train.csv"),
        *("--out", out, "--only", "linear", "--only", "tree"),
    )

    assert ended.code == ExitCode.USAGE
    assert "no kind is tree" in ended.err
    assert "forest-small, linear" in ended.err
    assert not out.exists()


def test_rows_without_labels_become_flows_that_the_model_reads(securenet, files):
    trained = securenet(
        *("model", "train", "--schema", files / "flows.toml", "--data", files / "train.csv"),
        *("--out", files / "models", "--only", "forest"),
    )
    assert trained.code == ExitCode.OK, trained.err
    assert sorted(file.name for file in (files / "models").iterdir()) == [
        "office-forest.json",
        "office-forest.safetensors",
    ]
    model = files / "models" / "office-forest.safetensors"
    (files / "live.csv").write_text("bytes,proto,dur\n600,tcp,50\n20,udp,0.1\n-,gre,1\n")
    arguments = ("model", "features", "--csv", files / "live.csv", "--model", model)

    ended = securenet(
        *arguments, "--schema", files / "flows.toml", "--out", files / "live.jsonl", "--json"
    )

    assert ended.code == ExitCode.OK, ended.err
    artifact = load_artifact(model.read_bytes())
    assert ended.document["schema"] == artifact.schema.digest.hex()
    assert ended.document["missing"] == {"bytes": 1}
    assert ended.document["proto"] == {"tcp": 1, "udp": 1, "gre": 1}
    flows = [parse_flow_file(files / "live.jsonl", row) for row in (1, 2, 3)]
    assert flows[0].integers == (50_000, 600)
    scores = Detector(artifact).judge(flows)
    assert [score >= artifact.threshold_ppm for score in scores[:2]] == [False, True]

    refused = [
        (("--out", files / "o.jsonl"), "give --schema and --model"),
        (("--out", files / "o.csv", "--schema", files / "flows.toml"), "is not .jsonl"),
        (("--out", files / "o.jsonl", "--schema", files / "other.toml"), "those of the model"),
    ]
    (files / "other.toml").write_text(SMALL.replace("scale = 1000", "scale = 100"))
    for more, told in refused:
        ended = securenet(*arguments, *more)
        assert ended.code == ExitCode.USAGE
        assert told in ended.err
    assert not (files / "o.jsonl").exists()


def test_an_evaluation_on_a_test_file_has_the_form_of_that_on_nsl_kdd(securenet, files):
    ended = securenet(
        *("model", "evaluate", "--schema", files / "flows.toml", "--data", files / "train.csv"),
        *("--test", files / "test.csv", "--seeds", 2, "--json"),
    )

    assert ended.code == ExitCode.OK, ended.err
    for mode in ("detect", "low_false_alarm"):
        figures = ended.document["modes"][mode]
        assert figures["seeds"] == [42, 43]
        assert figures["accuracy"] > 0.9
        assert figures["unseen_recall"] > 0.9
    assert ended.document["families"].keys() >= {"accuracy", "macro_f1"}
    test = ended.document["first_seed"]["test"]
    assert test["unknown"] == {"proto": {"rows": 1, "values": 1, "most": ["gre"]}}
    assert ended.document["files"][1]["missing"] == {"bytes": 1}
    assert ended.document["data"]["test.csv"] == file_digest(files / "test.csv")


def test_without_a_test_file_a_part_is_set_aside(securenet, files):
    arguments = (
        "model",
        "evaluate",
        "--schema",
        files / "flows.toml",
        "--data",
        files / "train.csv",
    )

    ended = securenet(*arguments, "--seeds", 1, "--json")

    assert ended.code == ExitCode.OK, ended.err
    assert ended.document["modes"]["detect"]["unseen_recall"] is None
    first = ended.document["first_seed"]
    assert first["training"]["rows"] + first["test"]["rows"] == 600
    assert first["test"]["left_out"] == 0

    spoken = securenet(*arguments, "--seeds", 1)

    assert spoken.code == ExitCode.OK
    assert "a part set aside" in spoken.out
    assert "600 rows, 0 duplicates" in spoken.out


@pytest.mark.parametrize(
    "command", [("train", "--out", "models"), ("evaluate",)], ids=["train", "evaluate"]
)
@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("", "bad.csv, row 1, row: there is no header"),
        ("dur,proto,bytes\n1,tcp,2\n", "bad.csv, row 1, kind: the header has no such column"),
        ("dur,proto,bytes,kind\n1,tcp,2,ok\nNaN,tcp,2,ok\n", "bad.csv, row 3, dur: 'NaN'"),
        ("dur,proto,bytes,kind\n-1,tcp,2,ok\n", "bad.csv, row 2, dur: '-1' is below 0"),
        ("dur,proto,bytes,kind\n1,tcp,1e99,ok\n", "bad.csv, row 2, bytes: '1e99' is above 2**53"),
        ("dur,proto,bytes,kind\n1,tcp,2,ok\n", "training needs normal rows and attacks"),
    ],
)
def test_bad_data_is_told_in_one_line_and_nothing_is_written(
    securenet, files, command, rows, told, monkeypatch
):
    monkeypatch.chdir(files)
    (files / "bad.csv").write_text(rows)
    (files / "other.csv").write_text("dur,proto,bytes,kind\n9,tcp,9,ok\n")

    ended = securenet(
        *("model", *command, "--schema", "flows.toml", "--data", "bad.csv", "--test", "other.csv")
    )

    assert ended.code == ExitCode.USAGE
    assert told in ended.err
    assert not Path("models").exists()


def test_a_test_file_without_a_schema_is_refused(securenet, files):
    for command in (("train", "--out", files / "o"), ("evaluate",)):
        ended = securenet("model", *command, "--data", files, "--test", files / "test.csv")
        assert ended.code == ExitCode.USAGE
        assert "--schema" in ended.err


def test_traffic_only_is_for_nsl_kdd(securenet, files):
    for command in (("train", "--out", files / "o"), ("evaluate",)):
        ended = securenet(
            *("model", *command, "--schema", files / "flows.toml", "--data", files / "train.csv"),
            "--traffic-only",
        )
        assert ended.code == ExitCode.USAGE
        assert "--traffic-only is for NSL-KDD" in ended.err


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "office"', 'name = "office"\ncolour = "red"', "colour: there is no such setting"),
        ('name = "office"', 'name = "../office"', "name: "),
        ('name = "office"', 'name = "office"\nseparator = "tab"', "separator: "),
        ('name = "office"', 'name = "office"\nheader = false\nunlisted = "ignore"', "every column"),
        ('kind = "category"', 'kind = "category", scale = 10', "scale is not for columns"),
        ('kind = "category"', 'kind = "word"', "columns.1.kind: "),
        ('kind = "category"', 'kind = "category", values = ["a", "a"]', "one value twice"),
        ("scale = 1000", "scale = 1001", "no power of ten"),
        ("when_missing = 0", 'when_missing = "x"', "when_missing is 'x'"),
        ("when_missing = 0", "when_missing = -1", "when_missing is -1"),
        ('kind = "label"', 'kind = "ignored"', "0 columns of the kind label"),
        ('name = "bytes"', 'name = "dur"', "two columns of one name"),
        ('name = "bytes"', f'name = "{"b" * 65}"', "columns.2.name: 65 bytes, not 1 to 64"),
        # A model counts bytes, not letters.
        ('name = "bytes"', f'name = "{"ü" * 33}"', "columns.2.name: 66 bytes, not 1 to 64"),
        ('kind = "category"', f'kind = "category", values = ["{"ü" * 17}"]', "34 bytes, not 1"),
        ('["flood", "smurf"]', '["flood", "ok"]', "one label twice"),
        ("dos = [", "normal = [", "normal is no family"),
        ("columns = [", "columns = [[", "is no TOML"),
    ],
)
def test_a_schema_file_that_is_wrong_is_refused_by_the_setting(tmp_path, old, new, told):
    assert old in SMALL
    path = tmp_path / "flows.toml"
    path.write_text(SMALL.replace(old, new, 1))
    with pytest.raises(BadInput) as caught:
        load_schema_file(path)
    assert told in caught.value.what
    assert "\n" not in caught.value.what


def test_names_of_the_largest_size_are_read_by_a_model(tmp_path):
    column, value = "ü" * 32, "ü" * 16
    text = SMALL.replace('"proto", kind = "category"', f'"{column}", kind = "category"')
    path = tmp_path / "flows.toml"
    path.write_text(text.replace('= "category"', f'= "category", values = ["{value}"]'))
    schema = learn_schema(load_schema_file(path), ())

    assert decode_schema(schema.encode()) == schema
    assert [(c.name, c.values) for c in schema.categories] == [(column, (value,))]


def test_the_files_of_nsl_kdd_are_described_and_told_from_others(securenet, tmp_path, monkeypatch):
    write_records(tmp_path / TRAIN_FILE, generate_mixture(20, seed=1))
    write_records(tmp_path / "mine.txt", [*generate_mixture(3, seed=1)] * 2)

    altered = securenet("model", "data", "check", tmp_path / TRAIN_FILE, "--json")
    mine = securenet("model", "data", "check", tmp_path / "mine.txt", "--json")
    digests = {TRAIN_FILE: file_digest(tmp_path / TRAIN_FILE)}
    monkeypatch.setattr(nsl_kdd, "GENUINE_DIGESTS", digests)
    monkeypatch.setattr("ml_validator.data_check.GENUINE_DIGESTS", digests)
    genuine = securenet("model", "data", "check", tmp_path, "--json")

    assert altered.code == ExitCode.MISSED
    assert altered.document["files"][0]["genuine"] is False
    assert "not the genuine file" in altered.err
    assert mine.code == ExitCode.OK
    (facts,) = mine.document["files"]
    assert (facts["genuine"], facts["rows"]) == (None, 48)
    assert facts["duplicates"] >= 24
    assert facts["families"]["normal"] == 30
    assert genuine.code == ExitCode.OK
    assert [facts["file"] for facts in genuine.document["files"]] == [TRAIN_FILE]
    assert genuine.document["files"][0]["sha256"] == digests[TRAIN_FILE]


def test_a_row_of_nsl_kdd_that_cannot_be_read_is_named(securenet, tmp_path):
    write_records(tmp_path / "mine.txt", generate_mixture(1, seed=1))
    with (tmp_path / "mine.txt").open("a") as file:
        file.write("0,tcp\n")

    ended = securenet("model", "data", "check", tmp_path / "mine.txt")

    assert ended.code == ExitCode.USAGE
    assert "mine.txt, row 9, row: 2 columns, not 43" in ended.err


def test_a_csv_file_without_a_schema_is_told_from_nsl_kdd(securenet, files):
    read = securenet("model", "data", "check", files / "train.csv")
    trained = securenet("model", "train", "--data", files / "train.csv", "--out", files / "o")

    assert read.code == trained.code == ExitCode.USAGE
    assert "it is not NSL-KDD" in read.err
    for told in (read.err, trained.err):
        assert "--schema" in told.splitlines()[-1]
        assert "docs/data.md" in told.splitlines()[-1]


def test_a_folder_without_files_of_nsl_kdd_is_refused(securenet, tmp_path):
    ended = securenet("model", "data", "check", tmp_path)

    assert ended.code == ExitCode.USAGE
    assert "none of KDDTest+.txt" in ended.err
