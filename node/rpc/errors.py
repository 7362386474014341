"""What the RPC itself refuses, before or beside what the chain and the node refuse.

::

    NodeError                    node.errors
    └── RpcError                 a request that is refused; `code` is the stable word
        ├── MalformedRequest     400
        ├── ForbiddenOrigin      403
        ├── UploadForbidden      403
        ├── NotFound             404
        ├── RequestTimeout       408
        ├── LengthRequired       411
        ├── TooLarge             413
        ├── UnsupportedMediaType 415
        ├── RangeNotSatisfiable  416
        ├── WrongDigest          422
        ├── NotReady             503
        ├── Busy                 503, with ``retry_after_ms``
        ├── CursorAhead          ends an event stream
        └── SlowConsumer         ends an event stream
"""

from typing import ClassVar

from node.errors import NodeError


class RpcError(NodeError):
    """A request that is refused."""

    code: ClassVar[str] = "internal"


class MalformedRequest(RpcError):
    """A path, a query, a header or a message that is not what it should be."""

    code = "malformed"


class ForbiddenOrigin(RpcError):
    """A web page of another origin asks for the event stream."""

    code = "forbidden_origin"


class UploadForbidden(RpcError):
    """A blob that the chain does not name, from another machine."""

    code = "upload_forbidden"


class LengthRequired(RpcError):
    """A blob whose size is not told ahead."""

    code = "length_required"


class RangeNotSatisfiable(RpcError):
    """A range of bytes that the blob does not have."""

    code = "range_not_satisfiable"


class WrongDigest(RpcError):
    """The bytes are not those of the digest."""

    code = "wrong_digest"


class NotFound(RpcError):
    """Nothing has this name, id or height."""

    code = "not_found"


class RequestTimeout(RpcError):
    """The body did not arrive in time."""

    code = "request_timeout"


class TooLarge(RpcError):
    """A body above its bound."""

    code = "too_large"


class UnsupportedMediaType(RpcError):
    """A body of a type, or in an encoding, that the route does not take."""

    code = "unsupported_media_type"


class NotReady(RpcError):
    """The node does not meet what the probe asks for."""

    code = "not_ready"


class Busy(RpcError):
    """A bound of the RPC is reached; trying again may succeed.

    Parameters
    ----------
    detail : str
        Which bound.
    retry_after_ms : int
        When to try again.
    """

    code = "busy"

    def __init__(self, detail: str, *, retry_after_ms: int = 1_000) -> None:
        super().__init__(detail)
        self.retry_after_ms = retry_after_ms


class CursorAhead(RpcError):
    """A cursor of events that are still to come."""

    code = "ahead"


class SlowConsumer(RpcError):
    """A subscriber that takes nothing."""

    code = "slow_consumer"
