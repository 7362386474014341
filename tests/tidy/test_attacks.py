"""The list of known attacks, the tests that are marked with its lines, and the page agree."""

from scripts.make_attacks import (
    LIST,
    PAGE,
    Attack,
    Marked,
    read_attacks,
    read_markers,
    render,
    still_open,
)

MARK = "pytest.mark.attack"


def test_the_page_of_attacks_is_that_of_the_list_and_the_markers():
    page = render(read_attacks(), read_markers())

    assert PAGE.read_text() == page, "python -m scripts.make_attacks"


def test_every_attack_is_shown_explained_or_said_to_be_open():
    attacks = read_attacks()

    silent = [id for id in still_open(attacks, read_markers()) if not attacks[id].open]

    assert silent == []


def test_every_marker_names_a_line_of_the_list():
    unknown = {id: tests for id, tests in read_markers().items() if id not in read_attacks()}

    assert unknown == {}


def test_the_list_has_every_line_from_a_to_e_and_of_f_those_that_are_shown():
    counts = {"A": 16, "B": 17, "C": 4, "D": 18, "E": 8}

    expected = [f"{letter}{n}" for letter, count in counts.items() for n in range(1, count + 1)]

    listed = list(read_attacks(LIST))
    assert [id for id in listed if id[0] != "F"] == expected
    assert {id for id in listed if id[0] == "F"} <= {f"F{n}" for n in range(1, 12)}


def test_markers_are_read_from_the_source(tmp_path):
    (tmp_path / "tests").mkdir()
    source = (
        f'@{MARK}("X1", "X2")\nasync def test_one():\n    pass\n\n\ndef test_two():\n    pass\n'
    )
    (tmp_path / "tests/test_x.py").write_text(source)

    one = Marked(file="tests/test_x.py", name="test_one")
    assert read_markers(tmp_path) == {"X1": [one], "X2": [one]}


def test_a_line_that_nothing_shows_or_explains_is_open():
    attacks = {"A1": Attack(title="one"), "A2": Attack(title="two", note="not here")}
    shown = {"A1": [Marked(file="tests/x.py", name="test_it_is_so")]}

    assert still_open(attacks, {}) == ["A1"]
    assert still_open(attacks, shown) == []
    assert "[it is so](../tests/x.py)" in render(attacks, shown)
