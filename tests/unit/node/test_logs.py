import json
import logging

import pytest
import structlog

from node.config import LogConfig
from node.errors import ConfigError
from node.logs import BYTES_SIZE_MAX, HIDDEN, TEXT_SIZE_MAX, _Output, configure_logs


class Noon:
    def wall_ms(self):
        return 1_700_000_000_123

    def monotonic_ns(self):
        return 0


@pytest.fixture(autouse=True)
def restored():
    levels = {name: logging.getLogger(name).level for name in (None, "aiohttp", "asyncio")}
    yield
    root = logging.getLogger()
    for handler in [found for found in root.handlers if isinstance(found, _Output)]:
        root.removeHandler(handler)
        handler.close()
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def lines(capsys):
    """Return what was logged, one parsed line each."""

    def read():
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    return read


def configure(**fields):
    configure_logs(LogConfig(**{"format": "json"} | fields), Noon())


def test_a_line_has_its_message_its_fields_and_the_time_of_the_clock(lines):
    configure()

    structlog.get_logger("node.service").info("block committed", height=7, is_new=True)

    assert lines() == [
        {
            "event": "block committed",
            "height": 7,
            "is_new": True,
            "level": "info",
            "logger": "node.service",
            "time": "2023-11-14T22:13:20.123Z",
        }
    ]


def test_less_than_the_level_is_left_out(lines):
    configure(level="warning")
    log = structlog.get_logger("node")

    log.info("quiet")
    log.warning("loud")

    assert [line["event"] for line in lines()] == ["loud"]


def test_libraries_come_out_in_the_same_form_from_warnings_on(lines):
    configure(level="debug")

    logging.getLogger("aiohttp.access").info("GET /")
    logging.getLogger("asyncio").warning("slow: %s", "task")

    assert [(line["event"], line["level"], line["logger"]) for line in lines()] == [
        ("slow: task", "warning", "asyncio")
    ]


@pytest.mark.parametrize("name", sorted(HIDDEN))
def test_secrets_and_payloads_are_hidden(lines, name):
    configure()

    structlog.get_logger("node").info("oops", **{name: "do not tell"})

    (line,) = lines()
    assert line[name] == "(hidden)"


def test_bytes_are_shown_in_hex_and_long_ones_by_their_length(lines):
    configure()

    structlog.get_logger("node").info("x", id=b"\x01\xff", data=bytes(BYTES_SIZE_MAX + 1))

    (line,) = lines()
    assert (line["id"], line["data"]) == ("01ff", "(65 bytes)")


@pytest.mark.parametrize("format", ["json", "console"])
def test_what_a_peer_says_cannot_fake_a_line(capsys, format):
    configure(format=format)

    structlog.get_logger("node").info("peer refused", reason="x\n2023 [info] all is well\x1b[2J")

    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "all is well" in text


def test_a_long_field_is_cut(lines):
    configure()

    structlog.get_logger("node").info("x", reason="a" * 100_000, peers=list(range(100_000)))

    (line,) = lines()
    assert len(line["reason"]) < TEXT_SIZE_MAX + 50
    assert len(line["peers"]) < TEXT_SIZE_MAX + 50


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_traceback_is_text_without_local_variables(capsys, format):
    configure(format=format)
    local = "do not " + "tell"

    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("node").exception("failed")
        logging.getLogger("aiohttp").exception("failed too")

    text = capsys.readouterr().err
    assert text.count("ValueError: broken") == 2
    assert local not in text


def test_a_line_for_people_has_no_colours_off_a_terminal(capsys):
    configure(format="console")

    structlog.get_logger("node").info("block committed", height=7)

    text = capsys.readouterr().err
    assert "2023-11-14T22:13:20.123Z" in text
    assert "height=7" in text
    assert "\x1b" not in text


def test_a_full_file_is_put_aside_and_so_many_are_kept(tmp_path, capsys):
    path = tmp_path / "node.log"
    configure(file=path, file_size_max_bytes=64 * 1024, files_max=2)
    log = structlog.get_logger("node")

    for number in range(3_000):
        log.info("line", number=number)

    names = sorted(found.name for found in tmp_path.iterdir())
    assert names == ["node.log", "node.log.1", "node.log.2"]
    assert all(found.stat().st_size <= 64 * 1024 for found in tmp_path.iterdir())
    assert json.loads(path.read_text().splitlines()[-1])["number"] == 2_999
    assert capsys.readouterr().err == ""


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"log\.file: .*missing.*No such file"):
        configure(file=tmp_path / "missing" / "node.log")


def test_setting_up_again_replaces_what_was_set_up(tmp_path, lines):
    configure(file=tmp_path / "node.log")
    configure()

    structlog.get_logger("node").info("once")

    assert [line["event"] for line in lines()] == ["once"]
    assert (tmp_path / "node.log").read_text() == ""


def test_fields_of_the_context_are_added(lines):
    configure()

    with structlog.contextvars.bound_contextvars(node="n1"):
        structlog.get_logger("node").info("x")

    assert lines()[0]["node"] == "n1"
