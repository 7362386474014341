"""Pages of lists: how they are asked for, where they continue, when they end."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from chain.types import DIGEST_SIZE, HEIGHT_MAX, Address, Digest
from node.errors import Pruned
from node.rpc.errors import MalformedRequest
from node.rpc.limits import PAGE_DEFAULT, PAGE_MAX, SCAN_MAX
from node.storage.chain_store import ChainStore

R = TypeVar("R")
Q = TypeVar("Q", bound="Query")

INDEX_MAX: Final = 2**32 - 1
CURSOR_SIZE_MAX: Final = 128

_ID: Final = re.compile(rf"[0-9a-f]{{{2 * DIGEST_SIZE}}}")
_HEIGHT: Final = re.compile(r"0|[1-9][0-9]{0,14}")
_PLACE: Final = re.compile(r"(0|[1-9][0-9]{0,14}):(0|[1-9][0-9]{0,9})")

Id = Annotated[str, StringConstraints(pattern=f"^{_ID.pattern}$")]


class Query(BaseModel):
    """The query of a route; what it does not name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PageQuery(Query):
    """The query of every list."""

    cursor: str | None = Field(default=None, max_length=CURSOR_SIZE_MAX)
    limit: int = Field(default=PAGE_DEFAULT, ge=1, le=PAGE_MAX)


class BlockPageQuery(PageQuery):
    """The query of ``/v1/blocks``."""

    order: Literal["asc", "desc"] = "desc"


class DevicePageQuery(PageQuery):
    """The query of ``/v1/devices``."""

    organisation: Id | None = None
    status: Literal["active", "suspended", "quarantined", "revoked"] | None = None


class MeasurePageQuery(PageQuery):
    """The query of ``/v1/measures``; `appealed` asks for those whose appeal waits for an answer."""

    appealed: bool | None = None


class ProposalPageQuery(PageQuery):
    """The query of ``/v1/proposals``."""

    status: Literal["open", "enacted", "rejected", "expired", "void"] | None = None


class RoundPageQuery(PageQuery):
    """The query of ``/v1/rounds``."""

    phase: (
        Literal[
            "join",
            "draw",
            "share",
            "commit",
            "attest",
            "reveal",
            "aggregate",
            "finished",
            "failed",
            "aborted",
        ]
        | None
    ) = None


class SubmitQuery(Query):
    """The query of ``POST /v1/transactions``."""

    wait: Literal["commit"] | None = None


class ReadyQuery(Query):
    """The query of ``/health/ready``."""

    max_lag_blocks: int = Field(default=2, ge=0, le=HEIGHT_MAX)
    min_peers: int = Field(default=0, ge=0, le=10_000)


def require_kept(chain: ChainStore, after: tuple[int, int] | None, name: str, what: bytes) -> None:
    """Refuse to go on behind a place where something may have been removed since.

    Raises
    ------
    Pruned
        The node keeps the class `what` only from a later height on. A page without a cursor begins
        with what is kept.
    """
    first = chain.first(what)
    if after is not None and after[0] + 1 < first:
        raise Pruned(f"what follows {name} of block {after[0]}", first=first)


def parse_query(model: type[Q], query: Mapping[str, str]) -> Q:
    """Read a query string.

    Raises
    ------
    MalformedRequest
        An unknown parameter, one given twice, or a value out of range.
    """
    values = dict(query)
    if len(values) != len(query):
        raise MalformedRequest("query: a parameter is given twice")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise malformed(error, "query") from error


def malformed(error: ValidationError, what: str) -> MalformedRequest:
    """Return the refusal that names the first fault that pydantic found in `what`."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path = ".".join([what, *(str(part)[:40] for part in first["loc"])])
    return MalformedRequest(f"{path}: {first['msg']}")


def parse_id(text: str, what: str) -> Digest:
    """Read an id of 32 bytes; raises `MalformedRequest`."""
    if _ID.fullmatch(text) is None:
        raise MalformedRequest(f"{what}: not {2 * DIGEST_SIZE} digits of lower-case hex")
    return Digest(bytes.fromhex(text))


def parse_address(text: str, what: str) -> Address:
    """Read the id of a device, miner or organisation; raises `MalformedRequest`."""
    return Address(bytes(parse_id(text, what)))


def parse_height(text: str, what: str) -> int:
    """Read a height; raises `MalformedRequest`."""
    if _HEIGHT.fullmatch(text) is None or int(text) > HEIGHT_MAX:
        raise MalformedRequest(f"{what}: not a height")
    return int(text)


def parse_place(text: str, what: str) -> tuple[int, int]:
    """Read ``height:index``; raises `MalformedRequest`."""
    match = _PLACE.fullmatch(text)
    if match is None or int(match[1]) > HEIGHT_MAX or int(match[2]) > INDEX_MAX:
        raise MalformedRequest(f"{what}: not of the form height:index")
    return int(match[1]), int(match[2])


def render_place(place: tuple[int, int]) -> str:
    """Return ``height:index``."""
    return f"{place[0]}:{place[1]}"


def page(items: list[Any], cursor: str | None) -> dict[str, Any]:
    """Return the answer of a list."""
    return {"items": items, "cursor": cursor}


def page_of_table(
    scan: Callable[[bytes], Iterator[tuple[bytes, R]]],
    query: PageQuery,
    render: Callable[[bytes, R], dict[str, Any]],
    keep: Callable[[R], bool] = lambda _: True,
) -> dict[str, Any]:
    """Return a page of a table of the state, in order of its keys.

    Parameters
    ----------
    scan : callable
        ``scan(after)`` iterates key and record behind the key `after`.
    render : callable
        Makes JSON of key and record.
    keep : callable, optional
        Filter; no more than `SCAN_MAX` records are looked at.
    """
    after = b"" if query.cursor is None else parse_id(query.cursor, "query.cursor")
    items: list[dict[str, Any]] = []
    last = after
    for seen, (key, record) in enumerate(scan(after)):
        if len(items) == query.limit or seen == SCAN_MAX:
            return page(items, last.hex())
        last = key
        if keep(record):
            items.append(render(key, record))
    return page(items, None)
