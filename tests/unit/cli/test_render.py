"""What is printed holds no control characters and stays greppable."""

import json

from cli.render import show_error, show_fields, show_json, show_table
from node.exit_codes import printable


def test_control_characters_never_reach_the_terminal(capsys):
    show_error("bad \x1b[31mname\n second line", "do\x07 this")

    assert capsys.readouterr().err == "error: bad  [31mname  second line\n  try: do  this\n"


def test_fields_are_aligned_and_absent_ones_left_out(capsys):
    show_fields({"id": "ab", "height": 7, "index": None, "active": True, "roles": ["a", "b"]})

    assert capsys.readouterr().out == "id      ab\nheight  7\nactive  yes\nroles   a, b\n"


def test_a_table_in_a_pipe_is_not_folded(capsys):
    show_table(["id", "name"], [["ab" * 32, "[bold]x"], ["cd" * 32, None]], empty="nothing")

    lines = capsys.readouterr().out.splitlines()
    assert any("ab" * 32 in line and "[bold]x" in line for line in lines)


def test_a_table_too_wide_for_the_terminal_shows_each_value_whole(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")

    show_table(["id", "name"], [["ab" * 32, "x"], ["cd" * 32, None]], empty="nothing")

    assert capsys.readouterr().out == f"id    {'ab' * 32}\nname  x\n\nid  {'cd' * 32}\n\n"


def test_a_table_that_fits_the_terminal_stays_one(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")

    show_table(["id", "name"], [["ab", "x"]], empty="nothing")

    assert any("ab" in line and "x" in line for line in capsys.readouterr().out.splitlines())


def test_json_is_ascii_whatever_it_holds(capsys):
    show_json({"name": "caf\xe9 \N{SNOWMAN}"})

    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {"name": "caf\xe9 \N{SNOWMAN}"}


def test_an_empty_table_says_so(capsys):
    show_table(["id"], [], empty="no devices")

    assert capsys.readouterr().out == "no devices\n"


def test_long_values_are_cut():
    assert printable("x" * 300) == "x" * 300
