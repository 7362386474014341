"""What the pages point at is there."""

import re
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import unquote

from tests.tidy.tree import PACKAGES, ROOT, project_files

PAGES = [path for path in project_files() if path.suffix == ".md"]
LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\s*\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", flags=re.MULTILINE | re.DOTALL)
FOLDERS = (*PACKAGES, ".ci", "bench", "docker", "docs", "requirements", "scripts", "tests")
NAMED_PATH = re.compile(rf"`((?:{'|'.join(map(re.escape, FOLDERS))})/[\w./*-]*)`")


def broken_links(page: Path, text: str) -> list[str]:
    """Return the relative links of a page which lead to no file; code blocks hold no links."""
    targets = [unquote(link.split("#")[0]) for link in LINK.findall(FENCE.sub("", text))]
    return [
        target
        for target in targets
        if target
        and "://" not in target
        and not target.startswith("mailto:")
        and not (ROOT / page.parent / target).exists()
    ]


def missing_paths(text: str) -> list[str]:
    """Return the paths named in backticks, from the project's root on, which are not there."""
    return [path for path in NAMED_PATH.findall(text) if not any(ROOT.glob(path.rstrip("/")))]


def test_every_relative_link_leads_to_a_file():
    broken = {str(page): broken_links(page, (ROOT / page).read_text()) for page in PAGES}

    assert {page: links for page, links in broken.items() if links} == {}


def test_every_path_named_in_a_page_exists():
    missing = {str(page): missing_paths((ROOT / page).read_text()) for page in PAGES}

    assert {page: paths for page, paths in missing.items() if paths} == {}


def test_every_make_target_named_in_code_exists():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", makefile, flags=re.MULTILINE))
    code = re.compile(r"`make ([a-z0-9-]+)|^\s*make ([a-z0-9-]+)", flags=re.MULTILINE)

    unknown = {
        (str(page), target)
        for page in PAGES
        for match in code.findall((ROOT / page).read_text())
        if (target := match[0] or match[1]) not in targets
    }

    assert unknown == set()


def test_the_search_finds_what_is_missing():
    page = Path("tests/page.md")

    assert broken_links(page, "[a](absent.md) [b](../LICENSE) [c](#here)") == ["absent.md"]
    assert broken_links(page, "```\n[a](absent.md)\n```\n[x](https://example.org)") == []
    assert missing_paths("`chain/absent.py` `chain/` `chain/*.py` `build/x`") == ["chain/absent.py"]


def test_git_passes_over_every_key_that_the_readme_makes():
    keys = re.findall(r"keys new .*--out (\S+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()

    assert len(keys) > 1
    assert [key for key in keys if not any(fnmatch(f"/{key}", line) for line in ignored)] == []
