"""What the columns of a flow mean, and their encoding as a row of integers.

A flow carries the digest of its schema, so that a model never reads columns in an order it was not
trained on. Integer columns go into the row as they are; a categorical column becomes one column of
0 or 1 for each value the schema lists, and a value it does not list is 0 in all of them. Nothing
here is a float. docs/spec/ml.md is normative.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from chain import codec
from chain.crypto import tagged_hash
from chain.errors import DecodeError
from chain.payloads import CATEGORY_SIZE_MAX, FLOW_CATEGORIES_MAX, FLOW_INTEGERS_MAX, Flow
from chain.schema import Integer, ListOf, Record, Text, Word
from chain.types import Digest
from ml_validator.errors import InvalidFlow, InvalidSchema, UnknownSchema

SCHEMA_TAG: Final = b"securenet/feature-schema/v1"
INTEGER_MAX: Final = 2**63 - 1
SCALE_MAX: Final = 10**9
VALUES_MAX: Final = 512
"""Values of one category that a schema tells apart."""
COLUMNS_MAX: Final = 1_024
"""Columns of a row; a matrix of the flows that are judged at once stays below 5 MB."""
NAME_SIZE_MAX: Final = 64
SCHEMA_SIZE_MAX: Final = 64 * 1024

Unit = Literal["bytes", "count", "flag", "rate", "seconds"]
Matrix = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerColumn:
    """A numeric column.

    Parameters
    ----------
    name : str
        As the data set names it.
    unit : str
        What one step of the unscaled value is.
    scale : int
        A power of ten up to `SCALE_MAX`: 100 where the flow carries hundredths.
    """

    name: str
    unit: Unit
    scale: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoricalColumn:
    """A column of names; `values` are those with a column of their own in the row, in its order."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FeatureSchema:
    """The meaning and order of the columns of a flow.

    Parameters
    ----------
    name : str
        For people; bound by the digest all the same.
    integers : tuple of IntegerColumn
        Order of ``Flow.integers`` and of the first columns of a row.
    categories : tuple of CategoricalColumn
        Order of ``Flow.categories`` and of the columns that follow.
    """

    name: str
    integers: tuple[IntegerColumn, ...]
    categories: tuple[CategoricalColumn, ...]
    _places: tuple[Mapping[str, int], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        places = []
        start = len(self.integers)
        for category in self.categories:
            places.append({value: start + i for i, value in enumerate(category.values)})
            start += len(category.values)
        object.__setattr__(self, "_places", tuple(places))

    def encode(self) -> bytes:
        """Return the canonical bytes that the digest is over."""
        return codec.encode(
            [
                self.name,
                [[c.name, c.unit, c.scale] for c in self.integers],
                [[c.name, list(c.values)] for c in self.categories],
            ]
        )

    @cached_property
    def digest(self) -> Digest:
        """What a flow and a model carry to name this schema."""
        return tagged_hash(SCHEMA_TAG, self.encode())

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns of a row: ``src_bytes``, …, ``flag=SF``."""
        return tuple(c.name for c in self.integers) + tuple(
            f"{c.name}={value}" for c in self.categories for value in c.values
        )

    @property
    def column_count(self) -> int:
        """Length of a row."""
        return len(self.column_names)

    def fits(self, flow: Flow) -> bool:
        """Whether `rows` would accept this flow."""
        return (
            flow.schema == self.digest
            and len(flow.integers) == len(self.integers)
            and len(flow.categories) == len(self.categories)
            and min(flow.integers, default=0) >= 0
            and max(flow.integers, default=0) <= INTEGER_MAX
        )

    def rows(self, flows: Sequence[Flow], *, first_index: int = 0) -> Matrix:
        """Encode `flows`.

        Parameters
        ----------
        flows : sequence of Flow
            In any number; an empty one gives an array of no rows.
        first_index : int
            What errors call the first flow.

        Returns
        -------
        ndarray of shape (n_flows, column_count), int64, 0 or more

        Raises
        ------
        UnknownSchema
            A flow is of another schema.
        InvalidFlow
            A flow has another number of columns, or an integer below 0 or above 2**63 − 1.
        """
        for index, flow in enumerate(flows, first_index):
            self._check_shape(index, flow)
        width = len(self.integers)
        integers = np.zeros((len(flows), width), np.int64)
        try:
            if flows:
                integers[:] = np.array([flow.integers for flow in flows], np.int64)
        except OverflowError:
            self._refuse_integers(flows, first_index)
        if (integers < 0).any():
            self._refuse_integers(flows, first_index)
        return self.rows_of(integers, [flow.categories for flow in flows])

    def rows_of(self, integers: Matrix, categories: Sequence[Sequence[str]]) -> Matrix:
        """Encode the columns of flows.

        Parameters
        ----------
        integers : ndarray of shape (n_flows, len(self.integers)), int64, 0 or more
        categories : sequence of n_flows sequences of str, each as long as `self.categories`

        Returns
        -------
        ndarray of shape (n_flows, column_count), int64, 0 or more
        """
        matrix = np.zeros((len(integers), self.column_count), np.int64)
        matrix[:, : len(self.integers)] = integers
        places = self._places
        ones = [
            (index, place[value])
            for index, values in enumerate(categories)
            for place, value in zip(places, values, strict=True)
            if value in place
        ]
        if ones:
            matrix[tuple(np.array(ones).T)] = 1
        return matrix

    def _check_shape(self, index: int, flow: Flow) -> None:
        if flow.schema != self.digest:
            raise UnknownSchema(flow.schema, f"flow {index}")
        if len(flow.integers) != len(self.integers):
            raise InvalidFlow(
                index, "integers", f"{len(flow.integers)} columns, not {len(self.integers)}"
            )
        if len(flow.categories) != len(self.categories):
            raise InvalidFlow(
                index, "categories", f"{len(flow.categories)} columns, not {len(self.categories)}"
            )

    def _refuse_integers(self, flows: Sequence[Flow], first_index: int) -> None:
        for index, flow in enumerate(flows, first_index):
            for column, value in zip(self.integers, flow.integers, strict=True):
                if not 0 <= value <= INTEGER_MAX:
                    raise InvalidFlow(index, column.name, f"{value} is outside 0 to 2**63 − 1")
        raise AssertionError("the encoder refused integers of which none is out of range")


_SCALES: Final = tuple(10**power for power in range(10))
COLUMN_NAME: Final = Text(NAME_SIZE_MAX, minimum=1)
"""What a name of a column, or of a schema, may be; sizes are those of UTF-8."""
CATEGORY_VALUE: Final = Text(CATEGORY_SIZE_MAX, minimum=1)
"""What a value of a category may be that models tell apart."""
_INTEGERS: Final = ListOf(
    Record(
        IntegerColumn, name=COLUMN_NAME, unit=Word(*get_args(Unit)), scale=Integer(1, SCALE_MAX)
    ),
    FLOW_INTEGERS_MAX,
)
_CATEGORIES: Final = ListOf(
    Record(
        CategoricalColumn,
        name=COLUMN_NAME,
        values=ListOf(CATEGORY_VALUE, VALUES_MAX),
    ),
    FLOW_CATEGORIES_MAX,
)


def decode_schema(data: bytes) -> FeatureSchema:
    """Read a schema from canonical bytes of any origin.

    Raises
    ------
    InvalidSchema
        They are not the canonical bytes of a schema within the bounds.
    """
    try:
        parts = codec.decode(data, what="bytes", size_max=SCHEMA_SIZE_MAX, items_max=VALUES_MAX)
        if len(parts) != 3:
            raise DecodeError("bytes", f"{len(parts)} parts, not 3")
        schema = FeatureSchema(
            name=COLUMN_NAME.read(parts[0], "name"),
            integers=_INTEGERS.read(parts[1], "integers"),
            categories=_CATEGORIES.read(parts[2], "categories"),
        )
    except DecodeError as error:
        raise InvalidSchema(error.where, error.reason) from error
    check_schema(schema)
    return schema


def check_schema(schema: FeatureSchema) -> None:
    """Make sure that a schema keeps the rules and bounds of docs/spec/ml.md.

    Raises
    ------
    InvalidSchema
        It does not.
    """
    names = [*(c.name for c in schema.integers), *(c.name for c in schema.categories)]
    try:
        for name in (schema.name, *names):
            COLUMN_NAME.read(name, "name")
        for category in schema.categories:
            for value in category.values:
                CATEGORY_VALUE.read(value, category.name)
    except DecodeError as error:
        raise InvalidSchema(error.where, error.reason) from error
    if len(set(names)) != len(names):
        raise InvalidSchema("columns", "two of one name")
    for column in schema.integers:
        if column.scale not in _SCALES:
            raise InvalidSchema(column.name, f"the scale {column.scale} is no power of ten")
    for category in schema.categories:
        if len(set(category.values)) != len(category.values):
            raise InvalidSchema(category.name, "one value twice")
    if not 1 <= schema.column_count <= COLUMNS_MAX:
        raise InvalidSchema(
            "columns", f"{schema.column_count} columns in a row, not 1 to {COLUMNS_MAX}"
        )
    if len(schema.encode()) > SCHEMA_SIZE_MAX:
        raise InvalidSchema("bytes", f"more than {SCHEMA_SIZE_MAX}")


def _columns(unit: Unit, names: str) -> dict[str, IntegerColumn]:
    scale = 100 if unit == "rate" else 1
    return {name: IntegerColumn(name=name, unit=unit, scale=scale) for name in names.split()}


_NSL_KDD_COLUMNS: Final = (
    _columns("seconds", "duration")
    | _columns("bytes", "src_bytes dst_bytes")
    | _columns("flag", "land")
    | _columns("count", "wrong_fragment urgent hot num_failed_logins")
    | _columns("flag", "logged_in")
    | _columns("count", "num_compromised")
    | _columns("flag", "root_shell")
    | _columns(
        "count",
        "su_attempted num_root num_file_creations num_shells num_access_files num_outbound_cmds",
    )
    | _columns("flag", "is_host_login is_guest_login")
    | _columns("count", "count srv_count")
    | _columns(
        "rate",
        "serror_rate srv_serror_rate rerror_rate srv_rerror_rate same_srv_rate diff_srv_rate"
        " srv_diff_host_rate",
    )
    | _columns("count", "dst_host_count dst_host_srv_count")
    | _columns(
        "rate",
        "dst_host_same_srv_rate dst_host_diff_srv_rate dst_host_same_src_port_rate"
        " dst_host_srv_diff_host_rate dst_host_serror_rate dst_host_srv_serror_rate"
        " dst_host_rerror_rate dst_host_srv_rerror_rate",
    )
)

_SERVICES: Final = (
    "IRC X11 Z39_50 aol auth bgp courier csnet_ns ctf daytime discard domain domain_u echo eco_i"
    " ecr_i efs exec finger ftp ftp_data gopher harvest hostnames http http_2784 http_443"
    " http_8001 imap4 iso_tsap klogin kshell ldap link login mtp name netbios_dgm netbios_ns"
    " netbios_ssn netstat nnsp nntp ntp_u other pm_dump pop_2 pop_3 printer private red_i"
    " remote_job rje shell smtp sql_net ssh sunrpc supdup systat telnet tftp_u tim_i time urh_i"
    " urp_i uucp uucp_path vmnet whois"
)
_FLAGS: Final = "OTH REJ RSTO RSTOS0 RSTR S0 S1 S2 S3 SF SH"

NSL_KDD_SCHEMA: Final = FeatureSchema(
    name="nsl-kdd",
    integers=tuple(_NSL_KDD_COLUMNS.values()),
    categories=(
        CategoricalColumn(name="protocol_type", values=("icmp", "tcp", "udp")),
        CategoricalColumn(name="service", values=tuple(_SERVICES.split())),
        CategoricalColumn(name="flag", values=tuple(_FLAGS.split())),
    ),
)
"""The 41 features of NSL-KDD: 38 integers in file order, then the three columns of names."""

SCHEMAS: Final[Mapping[Digest, FeatureSchema]] = MappingProxyType(
    {NSL_KDD_SCHEMA.digest: NSL_KDD_SCHEMA}
)
"""The schemas that every build knows: a model names them by the digest alone."""
