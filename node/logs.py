"""Logs: constant messages with data as fields, as lines of JSON or for people.

They go to standard error, whose rotation is the business of whoever runs the node, or to a file
that is put aside under a number when it has grown. Libraries that log by themselves come out in
the same form. Keys, payloads and feature rows are hidden, should they ever come this far, and what
a peer says can neither fake a line nor fill the disk with one.
"""

import logging
import sys
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from typing import Any, Final

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from node.clock import SystemClock
from node.config import LogConfig
from node.errors import ConfigError
from node.ports import Clock

TEXT_SIZE_MAX: Final = 1_000
"""Characters of one field; what is longer is cut. Tracebacks are left whole."""
BYTES_SIZE_MAX: Final = 64
"""Longer byte strings are no id, digest or signature: only their length is shown."""
HIDDEN: Final = frozenset(
    {"body", "features", "flow", "flows", "passphrase", "payload", "private", "secret", "seed"}
)
"""Fields that no line shows, whatever is in them."""

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_LIBRARIES: Final = ("aiohttp", "asyncio")


def configure_logs(config: LogConfig, clock: Clock | None = None) -> None:
    """Set up the logs of this process; a second call replaces what the first set up.

    Raises
    ------
    ConfigError
        The log file cannot be opened.
    """
    level = _LEVELS[config.level]
    # Tracebacks become text before anything renders them: a prettier one would show local
    # variables, and keys are among those.
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _AddTime(clock or SystemClock()),
        tame_values,
        structlog.processors.format_exc_info,
    ]
    handler = _Output.open(config)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[*common[:-2], structlog.stdlib.ExtraAdder(), *common[-2:]],
            processors=[ProcessorFormatter.remove_processors_meta, _renderer(config)],
        )
    )
    _install(handler, level)
    structlog.configure(
        processors=[*common, ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def tame_values(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Hide what no log may show, and bound and clean the rest; a processor of structlog."""
    del logger, method
    return {
        name: "(hidden)" if name in HIDDEN else _tame(value) if name not in _AS_IS else value
        for name, value in event.items()
    }


_AS_IS: Final = frozenset({"exc_info", "exception", "stack", "_record", "_from_structlog"})


def _tame(value: Any) -> Any:
    match value:
        case bool() | int() | float() | None:
            return value
        case bytes():
            return value.hex() if len(value) <= BYTES_SIZE_MAX else f"({len(value)} bytes)"
        case str():
            return _clean(value)
        case _:
            return _clean(text) if len(text := repr(value)) > TEXT_SIZE_MAX else value


def _clean(text: str) -> str:
    if len(text) > TEXT_SIZE_MAX:
        text = f"{text[:TEXT_SIZE_MAX]}… ({len(text)} characters)"
    if text.isprintable():
        return text
    # A line break in what a peer said would begin a line of its own.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _AddTime:
    """A processor that stamps each line with the node's own clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        moment = datetime.fromtimestamp(self._clock.wall_ms() / 1_000, UTC)
        event["time"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return event


def _renderer(config: LogConfig) -> Processor:
    if config.format == "json":
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    is_terminal = config.file is None and sys.stderr.isatty()
    return structlog.dev.ConsoleRenderer(colors=is_terminal, timestamp_key="time")


class _Output:
    """Marks the handlers set up here, so that they can be found and replaced."""

    @staticmethod
    def open(config: LogConfig) -> logging.Handler:
        if config.file is None:
            return _StandardError(sys.stderr)
        try:
            return _File(
                config.file,
                maxBytes=config.file_size_max_bytes,
                backupCount=config.files_max,
                encoding="utf-8",
            )
        except OSError as error:
            raise ConfigError(
                "log.file", f"{config.file} cannot be written ({error.strerror})"
            ) from error


class _StandardError(logging.StreamHandler[Any], _Output):
    pass


class _File(RotatingFileHandler, _Output):
    pass


def _install(handler: logging.Handler, level: int) -> None:
    root = logging.getLogger()
    for earlier in [found for found in root.handlers if isinstance(found, _Output)]:
        root.removeHandler(earlier)
        earlier.close()
    root.addHandler(handler)
    root.setLevel(level)
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
