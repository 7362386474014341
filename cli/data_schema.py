"""Schema files: TOML that says what the columns of a CSV file of flows are. docs/data.md."""

import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from chain.errors import DecodeError
from chain.payloads import FLOW_CATEGORIES_MAX, FLOW_INTEGERS_MAX
from chain.schema import Text
from cli.arguments import read_bytes
from cli.errors import BadInput
from ml_validator.features import CATEGORY_VALUE, COLUMN_NAME, SCALE_MAX, VALUES_MAX, Unit
from ml_validator.labelled import NORMAL
from ml_validator.tables import (
    CELLS_MAX,
    LABELS_MAX,
    LEARNED_MAX,
    Column,
    Kind,
    Layout,
    scaled,
)
from node.config import first_fault

SCHEMA_FILE_SIZE_MAX: Final = 256 * 1024
MISSING_MAX: Final = 16

_Cell = Annotated[str, StringConstraints(max_length=64, strip_whitespace=True)]


def _as(rule: Text) -> AfterValidator:
    """Hold a text to the rule that models hold it to, which counts bytes."""

    def check(text: str) -> str:
        try:
            return rule.read(text, "text")
        except DecodeError as error:
            raise ValueError(error.reason) from error

    return AfterValidator(check)


_Stripped = Annotated[str, StringConstraints(strip_whitespace=True)]
_ColumnName = Annotated[_Stripped, _as(COLUMN_NAME)]
_Name = Annotated[_Stripped, _as(CATEGORY_VALUE)]
_Missing = Annotated[list[_Cell], Field(max_length=MISSING_MAX)]

_NUMBERS: Final = ("integer", "decimal")
# What a kind of column has no use for is a mistake of the writer, who should hear of it.
_MEANT_FOR: Final = {
    "unit": _NUMBERS,
    "scale": ("decimal",),
    "values": ("category",),
    "values_max": ("category",),
    "missing": (*_NUMBERS, "category"),
    "when_missing": (*_NUMBERS, "category"),
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _ColumnFile(_Strict):
    name: _ColumnName
    kind: Kind
    unit: Unit | None = None
    scale: int | None = Field(default=None, ge=1, le=SCALE_MAX)
    values: list[_Name] | Literal["learned"] | None = Field(default=None)
    values_max: int | None = Field(default=None, ge=1, le=VALUES_MAX)
    missing: _Missing | None = None
    when_missing: _Cell | int | None = None

    @model_validator(mode="after")
    def _fits(self) -> "_ColumnFile":
        for setting, kinds in _MEANT_FOR.items():
            if getattr(self, setting) is not None and self.kind not in kinds:
                raise ValueError(f"{setting} is not for columns of the kind {self.kind}")
        if self.scale is not None and str(self.scale).strip("0") != "1":
            raise ValueError(f"the scale {self.scale} is no power of ten")
        if isinstance(self.values, list):
            if len(self.values) > VALUES_MAX:
                raise ValueError(f"more than {VALUES_MAX} values")
            if len(set(self.values)) != len(self.values):
                raise ValueError("one value twice")
            if self.values_max is not None:
                raise ValueError("values_max is for values that are learned")
        if self.kind in _NUMBERS and self.when_missing is not None:
            read = scaled(str(self.when_missing), self.scale or 1)
            if read is None or read[0] < 0 or not read[1]:
                raise ValueError(f"when_missing is {self.when_missing!r}, not 0 or more")
        return self

    def column(self, missing: list[str]) -> Column:
        return Column(
            name=self.name,
            kind=self.kind,
            unit=self.unit or ("rate" if self.kind == "decimal" else "count"),
            scale=self.scale or 1,
            values=tuple(self.values) if isinstance(self.values, list) else None,
            values_max=self.values_max or LEARNED_MAX,
            missing=frozenset(cell.lower() for cell in self._missing_cells(missing)),
            when_missing=None if self.when_missing is None else str(self.when_missing),
        )

    def _missing_cells(self, missing: list[str]) -> list[str]:
        if self.kind in ("label", "ignored"):
            return []
        return missing if self.missing is None else self.missing


class _LabelsFile(_Strict):
    normal: Annotated[list[_Cell], Field(min_length=1, max_length=LABELS_MAX)]
    families: dict[_Name, Annotated[list[_Name], Field(max_length=LABELS_MAX)]] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "_LabelsFile":
        named = [*self.normal]
        for family, labels in (self.families or {}).items():
            if family.lower() == NORMAL:
                raise ValueError(f"{NORMAL} is no family of attacks; its labels go into normal")
            named += labels
        if len(set(named)) != len(named):
            raise ValueError("one label twice")
        return self


class _SchemaFile(_Strict):
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$")]
    separator: Literal[",", ";", "\t", "|"] = ","
    header: bool = True
    encoding: Literal["utf-8", "cp1252"] = "utf-8"
    unlisted: Literal["refuse", "ignore"] = "refuse"
    duplicates: Literal["drop", "keep"] = "drop"
    missing: _Missing = [""]
    labels: _LabelsFile
    columns: Annotated[list[_ColumnFile], Field(min_length=2, max_length=CELLS_MAX)]

    @model_validator(mode="after")
    def _whole(self) -> "_SchemaFile":
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError("two columns of one name")
        kinds = [column.kind for column in self.columns]
        if kinds.count("label") != 1:
            raise ValueError(f"{kinds.count('label')} columns of the kind label, not 1")
        numbers = sum(kind in _NUMBERS for kind in kinds)
        if numbers > FLOW_INTEGERS_MAX or kinds.count("category") > FLOW_CATEGORIES_MAX:
            raise ValueError(
                f"more than {FLOW_INTEGERS_MAX} numbers or {FLOW_CATEGORIES_MAX} categories"
            )
        if not numbers:
            raise ValueError("no column is a number")
        if not self.header and self.unlisted == "ignore":
            raise ValueError("without a header every column has to be listed")
        return self

    def layout(self) -> Layout:
        families = self.labels.families
        return Layout(
            name=self.name,
            columns=tuple(column.column(self.missing) for column in self.columns),
            normal=frozenset(self.labels.normal),
            families=None
            if families is None
            else {label: family for family, labels in families.items() for label in labels},
            separator=self.separator,
            header=self.header,
            encoding="utf-8-sig" if self.encoding == "utf-8" else self.encoding,
            ignores_unlisted=self.unlisted == "ignore",
            drops_duplicates=self.duplicates == "drop",
        )


def load_schema_file(path: Path) -> Layout:
    """Read a schema file.

    Raises
    ------
    BadInput
        It cannot be read, is no TOML, or a setting is unknown or out of its bounds.
    """
    advice = "see docs/data.md for what a schema file says"
    data = read_bytes(path)
    if len(data) > SCHEMA_FILE_SIZE_MAX:
        raise BadInput(f"{path} is larger than {SCHEMA_FILE_SIZE_MAX} bytes", advice)
    try:
        document = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        # No TOML, no UTF-8, or a number of more digits than Python reads.
        raise BadInput(f"{path} is no TOML: {error}", advice) from error
    try:
        return _SchemaFile.model_validate(document).layout()
    except ValidationError as error:
        where, reason = first_fault(error)
        raise BadInput(f"{path}: {where + ': ' if where else ''}{reason}", advice) from error
