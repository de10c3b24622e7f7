"""What the pages of deploy/ tell people to do works: the example runs, the commands are there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
PAGES = (DEPLOY / "first-trials.md", DEPLOY / "safety.md", DEPLOY / "another-robot.md")


def blocks(page: Path, language: str) -> list[str]:
    """Returns the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


def commands(page: Path) -> list[list[str]]:
    """Returns the words of every `offworld` command of a page, lines put together."""
    text = page.read_text().replace("\\\n", " ")
    indented = re.findall(r"^ {4,}(offworld .*)$", text, re.M)
    quoted = re.findall(r"`(offworld [^`]*)`", text)
    return [shlex.split(line, comments=True) for line in (*indented, *quoted)]


def test_the_example_of_another_robot_keeps_the_contracts(tmp_path: Path) -> None:
    (example,) = blocks(DEPLOY / "another-robot.md", "python")
    file = tmp_path / "test_my_robot.py"
    file.write_text(example)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "pyproject.toml"]
        + ["--rootdir", str(ROOT), str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 15  # of both contracts


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_has_its_flags(page: Path) -> None:
    found = commands(page)
    for words in found:
        flags = [word for word in words if word.startswith("--")]
        names = words[1 : next((i for i, w in enumerate(words) if w.startswith("--")), len(words))]
        # An argument that is not a flag, such as a trial, is written in capitals.
        names = [name for name in names if not name.isupper()]
        done = subprocess.run(
            [sys.executable, "-m", "services.cli", *names, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        for flag in set(flags) - {"--config"}:  # every command takes that one
            assert re.search(rf"{re.escape(flag)}\b", done.stdout), f"{' '.join(words)}: {flag}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_of_a_page_is_there(page: Path) -> None:
    named = re.findall(
        r"`((?:tests|robot|services|deploy|learner)/[\w./-]+?\.(?:py|md|toml|json))`",
        page.read_text(),
    )
    missing = [name for name in named if not (ROOT / name).exists()]
    assert set(missing) <= {"tests/robot/test_my_robot.py"}
