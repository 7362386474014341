"""Nothing in the project speaks of the machine it was written on, or of work put off."""

import os
import re
from pathlib import Path

import pytest

from tests.tidy.tree import ROOT, project_files

UNWANTED = {
    "a path of one machine": re.compile(
        r"(?<![\w.~$})-])/(?:work|root|Users|mnt|home/(?!securenet\b)\w+|opt/(?!securenet\b)\w+)/"
    ),
    "the host of a package registry": re.compile(
        r"\b(?:pypi\.org|pythonhosted\.org|registry\.npmjs\.org|artifactory|nexus\.|devpi)", re.I
    ),
    "work put off": re.compile(r"\b(?:TODO|FIXME|XXX)\b"),
    "an unfinished merge": re.compile(r"^(?:<{7} |>{7} |={7}$)", re.MULTILINE),
}
# This file has to name what it looks for.
EXCEPTED = {Path("tests/tidy/test_tidiness.py")}
TRACKED_FILE_BYTES_MAX = 4 * 1024 * 1024


def found_in(text: str) -> list[str]:
    return [
        f"{what}: {match.group()}"
        for what, pattern in UNWANTED.items()
        for match in pattern.finditer(text)
    ]


def test_no_file_names_a_machine_a_registry_or_work_put_off():
    findings = {}
    for path in project_files():
        if path not in EXCEPTED and (
            found := found_in((ROOT / path).read_text(errors="ignore") + f"\n{path}")
        ):
            findings[str(path)] = found

    assert findings == {}


@pytest.mark.parametrize(
    "text",
    [
        "see /root/notes.txt",
        "/home/somebody/securenet",
        "--index-url https://pypi.org/simple",
        "# TODO later",
        "<<<<<<< HEAD",
    ],
)
def test_the_search_finds_what_it_looks_for(text):
    assert found_in(text)


@pytest.mark.parametrize(
    "text",
    ["~/.securenet", "/home/securenet/data/", "chain/root/", "the state/root/proof", "/v1/x"],
)
def test_the_search_passes_over_what_is_allowed(text):
    assert found_in(text) == []


def test_no_large_file_is_part_of_the_project():
    large = {
        str(path): size
        for path in project_files()
        if (size := (ROOT / path).stat().st_size) > TRACKED_FILE_BYTES_MAX
    }

    assert large == {}


def test_the_ci_script_can_be_run():
    assert os.access(ROOT / ".ci/run", os.X_OK)
