"""Errors as problem documents (RFC 9457): the one place where an error becomes an HTTP status."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from chain.errors import DecodeError, Rejection, SecureNetError
from node.errors import BlobRefused, DamagedEntry, MempoolFull, Pruned
from node.rpc.errors import Busy, RpcError

CONTENT_TYPE: Final = "application/problem+json"
DETAIL_SIZE_MAX: Final = 400
"""Longer details are cut: they may quote what a client sent."""

REQUESTS: Final[Mapping[str, tuple[int, str]]] = {
    "malformed": (400, "Malformed request"),
    "bad_request": (400, "Bad request"),
    "ahead": (400, "Cursor ahead of the chain"),
    "forbidden_origin": (403, "Forbidden origin"),
    "upload_forbidden": (403, "Upload forbidden"),
    "not_found": (404, "Not found"),
    "unknown_route": (404, "Unknown route"),
    "method_not_allowed": (405, "Method not allowed"),
    "request_timeout": (408, "Request timeout"),
    "slow_consumer": (408, "Slow consumer"),
    "pruned": (410, "Not kept any more"),
    "length_required": (411, "Length required"),
    "too_large": (413, "Too large"),
    "unsupported_media_type": (415, "Unsupported media type"),
    "range_not_satisfiable": (416, "Range not satisfiable"),
    "wrong_digest": (422, "Wrong digest"),
    "internal": (500, "Internal error"),
    "damaged": (500, "Damaged entry"),
    "mempool_full": (503, "Mempool full"),
    "busy": (503, "Busy"),
    "not_ready": (503, "Not ready"),
    "blobs_full": (507, "No room for blobs"),
}
"""Status and title of what is wrong with a request, or with the node, by code."""

REJECTIONS: Final[Mapping[str, tuple[int, str]]] = {
    "malformed": (400, "Malformed transaction"),
    "unauthorised_miner": (422, "Not an active miner"),
    "unknown_device": (422, "Unknown device"),
    "device_not_active": (422, "Device not active"),
    "expired": (422, "Transaction expired"),
    "bad_signature": (422, "Bad signature"),
    "duplicate": (422, "Duplicate transaction"),
    "not_permitted": (422, "Not permitted"),
    "wrong_chain": (422, "Transaction of another chain"),
    "unknown_kind": (422, "Unknown kind of transaction"),
    "rate_limited": (429, "Rate limit used up"),
}
"""Status and title of what Algorithm 1 refuses, by code."""

BY_KIND: Final = (422, "Refused by the rules of its kind")
"""Status and title of every other refusal of a transaction, whatever its word."""

_HTTP_CODES: Final = {
    404: "unknown_route",
    405: "method_not_allowed",
    413: "too_large",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem document.

    Parameters
    ----------
    retry_after_ms : int, optional
        When trying again may succeed; becomes the header ``Retry-After``.
    extra : mapping, optional
        Further members.
    """

    status: int
    title: str
    code: str
    detail: str
    retry_after_ms: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def render(self) -> dict[str, Any]:
        """Return the document as JSON."""
        return {
            "type": f"/docs#{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail[:DETAIL_SIZE_MAX],
            "code": self.code,
            **self.extra,
        }


def problem_of(error: SecureNetError, *, time_ms: int, id: bytes | None = None) -> Problem:
    """Return what to answer for `error`.

    Parameters
    ----------
    time_ms : int
        The chain's time, by which a device whose transaction is not timely corrects its clock.
    id : bytes, optional
        The transaction that is refused.
    """
    extra: dict[str, Any] = {} if id is None else {"id": id.hex()}
    match error:
        case DecodeError():
            return request_problem("malformed", str(error), extra=extra)
        case Rejection():
            status, title = REJECTIONS.get(error.code, BY_KIND)
            if error.code == "expired":
                extra["time_ms"] = time_ms
            return Problem(
                status=status,
                title=title,
                code=error.code,
                detail=error.detail,
                retry_after_ms=error.retry_after_ms,
                extra=extra,
            )
        case MempoolFull():
            retry_after_ms = error.retry_after_ms
            return request_problem(
                "mempool_full", str(error), retry_after_ms=retry_after_ms, extra=extra
            )
        case Pruned():
            return request_problem("pruned", str(error), extra={"first_height": error.first})
        case DamagedEntry():
            return request_problem(
                "damaged",
                f"the {error.entry} is damaged on this node's disk; ask another node. Its operator "
                "finds all damage with securenet db verify",
                extra=extra,
            )
        case BlobRefused():
            return request_problem(error.code, str(error))
        case Busy():
            return request_problem("busy", str(error), retry_after_ms=error.retry_after_ms)
        case RpcError():
            return request_problem(error.code, str(error))
        case _:
            return INTERNAL


def request_problem(
    code: str,
    detail: str,
    *,
    retry_after_ms: int | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Problem:
    """Return a problem of `REQUESTS`."""
    status, title = REQUESTS[code]
    return Problem(
        status=status,
        title=title,
        code=code,
        detail=detail,
        retry_after_ms=retry_after_ms,
        extra=extra or {},
    )


INTERNAL: Final = request_problem("internal", "the node failed; its log says more")


def http_problem(error: web.HTTPException) -> Problem:
    """Return the problem of an error that aiohttp raised."""
    code = _HTTP_CODES.get(error.status, "bad_request")
    return request_problem(code, error.reason)


def problem_response(problem: Problem) -> web.Response:
    """Return the answer that carries `problem`."""
    headers = {}
    if problem.retry_after_ms is not None:
        headers["Retry-After"] = str(max(1, -(-problem.retry_after_ms // 1000)))
    return web.Response(
        status=problem.status,
        body=json.dumps(problem.render()).encode(),
        content_type=CONTENT_TYPE,
        headers=headers,
    )
