"""What is installed: the wheel, and the locks which its environment is made from."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import HeaderParser
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.tidy.tree import PACKAGES, ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIST_INFO = f"securenet-{PROJECT['version']}.dist-info"
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ]+)(?: ; ([^\\]+?))? \\$", flags=re.MULTILINE)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """Build the wheel offline from a copy, so that nothing built earlier gets into it."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy)
    for package in (*PACKAGES, "tests"):
        shutil.copytree(
            ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    target = tmp_path_factory.mktemp("wheel")
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps"),
            *("--no-build-isolation", "--quiet", "--wheel-dir", str(target), str(copy)),
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = target.glob("*.whl")
    return zipfile.Path(built)


def names(wheel: zipfile.Path) -> set[str]:
    return set(wheel.root.namelist())


def test_the_wheel_holds_the_five_packages_and_nothing_else(wheel):
    assert {name.split("/")[0] for name in names(wheel)} == {*PACKAGES, DIST_INFO}


def test_every_file_of_the_packages_is_in_the_wheel(wheel):
    files = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert files - names(wheel) == set(), "package data which pyproject.toml does not name"


def test_every_package_ships_its_types(wheel):
    assert {f"{package}/py.typed" for package in PACKAGES} <= names(wheel)


def test_the_wheel_refuses_to_be_uploaded_and_names_its_licence_and_command(wheel):
    metadata = HeaderParser().parsestr((wheel / DIST_INFO / "METADATA").read_text())

    assert "Private :: Do Not Upload" in metadata.get_all("Classifier", [])
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == "<3.13,>=3.11"
    assert "securenet = cli.main:main" in (wheel / DIST_INFO / "entry_points.txt").read_text()


def pins(lock: str) -> set[tuple[str, str, str]]:
    """Return (name, version, marker) of every line of a lock."""
    return set(PIN.findall((ROOT / "requirements" / lock).read_text()))


def test_every_dependency_is_locked_within_its_bounds():
    extras = PROJECT["optional-dependencies"]
    wanted = {
        "run.lock": PROJECT["dependencies"] + extras["build"],
        "dev.lock": PROJECT["dependencies"] + extras["build"] + extras["dev"],
        "flower.lock": PROJECT["dependencies"] + extras["build"] + extras["flower"],
    }
    for lock, requirements in wanted.items():
        for requirement in map(Requirement, requirements):
            versions = [
                version
                for name, version, _ in pins(lock)
                if canonicalize_name(name) == canonicalize_name(requirement.name)
            ]
            assert versions, f"{requirement.name} is not in {lock}: run make lock"
            assert all(version in requirement.specifier for version in versions), (lock, versions)


def test_the_development_lock_extends_the_other_without_a_change():
    assert pins("run.lock") < pins("dev.lock")


@pytest.mark.parametrize("lock", ["run.lock", "dev.lock", "flower.lock"])
def test_every_locked_version_has_its_hashes_and_no_address(lock):
    text = (ROOT / "requirements" / lock).read_text()
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]

    assert len(blocks) == len(pins(lock))
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert "://" not in text
    assert re.search(r"^\s*-(?!-hash=)", text, flags=re.MULTILINE) is None
