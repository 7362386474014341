"""Rate limits in the grammar that IoT operators know from ThingsBoard: ``capacity:seconds[,…]``."""

import re
from dataclasses import dataclass
from typing import Any, Final

from chain.errors import DecodeError

RATE_SECONDS_MAX: Final = 600
"""W_max: the longest window. Whoever validates blocks keeps the counts of so long a past."""
RATE_CAPACITY_MAX: Final = 1_000_000_000
RATE_WINDOWS_MAX: Final = 4

_WINDOW: Final = "[1-9][0-9]{0,9}:[1-9][0-9]{0,3}"
_FORM: Final = re.compile(f"{_WINDOW}(,{_WINDOW}){{0,{RATE_WINDOWS_MAX - 1}}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RateWindow:
    """At most `capacity` transactions within any `seconds`."""

    capacity: int
    seconds: int


RateLimits = tuple[RateWindow, ...]
"""Every window holds at once; the empty tuple limits nothing."""


def parse_limits(text: str, where: str = "limits") -> RateLimits:
    """Read ``10:1,300:60``; the empty text limits nothing.

    Raises
    ------
    DecodeError
        Another form, more than four windows, a window longer than W_max, or one length twice.
    """
    if not text:
        return ()
    if _FORM.fullmatch(text) is None:
        raise DecodeError(where, "not of the form capacity:seconds[,capacity:seconds…]")
    windows = []
    for part in text.split(","):
        capacity, seconds = (int(number) for number in part.split(":"))
        if capacity > RATE_CAPACITY_MAX or seconds > RATE_SECONDS_MAX:
            raise DecodeError(
                where,
                f"{part} is beyond {RATE_CAPACITY_MAX} transactions or {RATE_SECONDS_MAX} seconds",
            )
        windows.append(RateWindow(capacity=capacity, seconds=seconds))
    if len({window.seconds for window in windows}) != len(windows):
        raise DecodeError(where, "one length of window is given twice")
    return tuple(windows)


def render_limits(limits: RateLimits) -> str:
    """Return the text form."""
    return ",".join(f"{window.capacity}:{window.seconds}" for window in limits)


class Limits:
    """Schema of rate limits: their text form, in bytes as in JSON."""

    def read(self, value: object, where: str) -> RateLimits:
        """Read the text form."""
        if type(value) is not str:
            raise DecodeError(where, "not a string")
        return parse_limits(value, where)

    parse = read

    def write(self, value: RateLimits) -> str:
        """Write the text form."""
        return render_limits(value)

    render = write

    def describe(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return {"type": "string", "pattern": f"^(?:{_FORM.pattern})?$"}
