"""The readers and writers of records, compiled once for each from its fields."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from chain.errors import DecodeError
from chain.schema.plain import PLAIN, Schema

T = TypeVar("T")


def make_reader(make: type[T], fields: Mapping[str, Schema[Any]]) -> Callable[[object, str], T]:
    """Return the function that reads an array of `fields` into a `make`.

    Notes
    -----
    Compiled like the initialisers of dataclasses, and for the same reason: after the signature,
    reading is most of what a transaction costs. Slots are filled directly. Of each field that has a
    `sure` test it is tried first; what it does not hold for goes to the field's own `read`, which
    alone knows the rule and what to say.
    """
    items = [f"item_{name}" for name in fields]
    lines = [
        "def read(value, where):",
        f"    if type(value) is not list or len(value) != {len(items)}:",
        f"        raise DecodeError(where, 'not an array of {len(items)} fields')",
        f"    ({''.join(f'{item}, ' for item in items)}) = value",
        "    try:",
        "        made = new(make)",
    ]
    used: dict[str, Any] = {"DecodeError": DecodeError, "new": object.__new__, "make": make}
    for item, (name, schema) in zip(items, fields.items(), strict=True):
        used |= {f"read_{name}": schema.read, f"put_{name}": getattr(make, name).__set__}
        sure = getattr(schema, "sure", None)
        used[f"known_{name}"] = getattr(schema, "known", None)
        test = f"if not ({sure(item, f'known_{name}')}): " if sure else ""
        lines += [
            f"        {test}{item} = read_{name}({item}, {name!r})",
            f"        put_{name}(made, {item})",
        ]
    lines += [
        "    except DecodeError as error:",
        # The path is put together on the way out; reading is on the hot path, failing is not.
        "        raise DecodeError(f'{where}.{error.where}', error.reason) from error",
    ]
    if hasattr(make, "__post_init__"):
        lines.append("    made.__post_init__()")
    lines.append("    return made")
    read: Callable[[object, str], T] = _compiled(lines, used)
    read.__doc__ = "Read an array of the fields."
    return read


def make_writer(fields: Mapping[str, Schema[Any]]) -> Callable[[T], list[object]]:
    """Return the function that writes the fields as an array, compiled like the readers."""
    used: dict[str, Any] = {f"write_{name}": schema.write for name, schema in fields.items()}
    items = [
        f"value.{name}" if isinstance(schema, PLAIN) else f"write_{name}(value.{name})"
        for name, schema in fields.items()
    ]
    write: Callable[[T], list[object]] = _compiled(
        ["def write(value):", f"    return [{', '.join(items)}]"], used
    )
    write.__doc__ = "Write the fields as an array."
    return write


def _compiled(lines: Sequence[str], names: dict[str, Any]) -> Any:
    """Return the one function that `lines` define, which sees `names`."""
    made: dict[str, Any] = {}
    exec("\n".join(lines), names, made)  # noqa: S102  # made of the names of our own classes alone
    (function,) = made.values()
    return function
