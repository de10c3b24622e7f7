"""What the pages tell people to do works: the example runs, the commands and files are there."""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from services import cli

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
PAGES = (
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    DEPLOY / "first-trials.md",
    DEPLOY / "safety.md",
    DEPLOY / "another-robot.md",
    DEPLOY / "recording.md",
)
EVERY_COMMAND = [
    words
    for name, command in cli.COMMANDS.items()
    for words in (
        *([[name, verb] for verb in command.verbs] if command.verbs else [[name]]),
        *([name, other] for other in command.others),
    )
]
COMMAND = r"(?:offworld|python -m (?:robot|services|tests)\.)"


def blocks(page: Path, language: str) -> list[str]:
    """Returns the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


def commands(page: Path) -> list[list[str]]:
    """Returns the words of every command of ours on a page, lines put together, without `...`."""
    text = page.read_text().replace("\\\n", " ")
    indented = re.findall(rf"^ {{4,}}({COMMAND}.*)$", text, re.M)
    quoted = re.findall(rf"`({COMMAND}[^`]*)`", text)
    return [
        [word for word in shlex.split(line, comments=True) if word != "..."]
        for line in (*indented, *quoted)
        if line != "offworld"
    ]


def program(words: list[str]) -> tuple[list[str], list[str]]:
    """Returns how a command is started here, and the words that follow its name."""
    if words[0] == "python":
        return [sys.executable, *words[1:3]], words[3:]
    return [sys.executable, "-m", "services.cli"], words[1:]


@functools.cache
def help_of(command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Asks a command for its help."""
    return subprocess.run(
        [*command, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def refusal_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str | None:
    """Returns what a command of ours says against its arguments; None where it takes them.

    Files that a page has somebody write are not there and left out. Nothing is run: what is taken
    is printed instead.
    """
    words = list(words)
    if "--config" in words:
        at = words.index("--config")
        if not (ROOT / words[at + 1]).exists():
            del words[at : at + 2]
    if words[:1] == ["learner"] and "--config" not in words:
        words += ["--config", str(DEPLOY / "configs" / "demo-learner.toml")]
    try:
        code = cli.main([*words, "--print-config"])
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr()
    return None if code == 0 else said.out + said.err


def flags_alone(page: Path) -> list[list[str]]:
    """Returns the words of every flag with a value that is quoted without its command.

    A value in capitals stands for others, and is not looked at.
    """
    quoted = [shlex.split(line) for line in re.findall(r"`(--[^`]*)`", page.read_text())]
    return [words for words in quoted if len(words) > 1 and not any(w.isupper() for w in words)]


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
    assert found
    for words in found:
        start, rest = program(words)
        flags = [word for word in rest if word.startswith("--")]
        names = rest[: next((i for i, w in enumerate(rest) if w.startswith("--")), len(rest))]
        # An argument that is not a flag, such as a trial, is written in capitals.
        names = [name for name in names if not name.isupper()]
        done = help_of((*start, *names))
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        for flag in set(flags) - {"--config"}:  # every command takes that one
            assert re.search(rf"{re.escape(flag)}\b", done.stdout), f"{' '.join(words)}: {flag}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_takes_its_arguments(
    page: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    for words in commands(page):
        if words[0] == "offworld":
            refused = refusal_of(words[1:], capsys)
            assert refused is None, f"{' '.join(words)}: {refused}"
    for words in flags_alone(page):
        refusals = [refusal_of([*name, *words], capsys) for name in EVERY_COMMAND]
        assert None in refusals, f"{' '.join(words)}: no command takes it"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_of_a_page_is_there(page: Path) -> None:
    named = re.findall(
        r"`((?:tests|robot|services|deploy|learner)/[\w./-]+?\.(?:py|md|toml|json))`",
        page.read_text(),
    )
    named += [word for words in commands(page) for word in words if word.startswith("deploy/")]
    missing = [name for name in named if not (ROOT / name).exists()]
    assert set(missing) <= {"tests/robot/test_my_robot.py"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_target_of_make_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    text = page.read_text()
    named = re.findall(r"`make ([\w-]+)`", text) + re.findall(r"^ {4,}make ([\w-]+)", text, re.M)
    assert set(named) <= targets


@pytest.mark.parametrize(
    "text",
    [
        "    offworld actor --config actor.toml --exit-when-done True",
        "the actor stays, or `--exit-when-done True` has it end",
        "    offworld calibrate --held-mark 320 180",
        "see `offworld doctor --skip everything`",
    ],
)
def test_what_a_command_does_not_take_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(AssertionError):
        test_every_command_of_a_page_takes_its_arguments(page, capsys, monkeypatch)


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (test_every_command_of_a_page_has_its_flags, "    offworld data fly --store x"),
        (test_every_command_of_a_page_has_its_flags, "    offworld learner ... --no-such-flag 1"),
        (test_every_command_of_a_page_has_its_flags, "see `offworld actor\n--no-such-flag`"),
        (
            test_every_command_of_a_page_has_its_flags,
            "    python -m robot.doubles.xarm_controller --no-such-flag",
        ),
        (test_every_path_of_a_page_is_there, "    offworld actor --config deploy/configs/no.toml"),
        (test_every_path_of_a_page_is_there, "read `deploy/no.md`"),
        (test_every_target_of_make_is_there, "`make fly`"),
        (test_every_target_of_make_is_there, "    make fly     # high"),
    ],
)
def test_what_is_not_there_is_found(
    tmp_path: Path, check: Callable[[Path], None], text: str
) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(AssertionError):
        check(page)
