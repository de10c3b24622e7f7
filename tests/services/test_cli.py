"""The command line: its table, its exit codes, and what it says when something is wrong."""

from __future__ import annotations

import importlib
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from services import cli
from services.process import ExitCode


def test_help_lists_every_command_and_usage_errors_exit_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in cli.COMMANDS)
    assert cli.main([]) == 2
    assert cli.main(["trials"]) == 2
    assert cli.main(["fly"]) == 2
    assert cli.main(["trials", "fly"]) == 2
    assert "list, watch, show, verify" in capsys.readouterr().err
    assert cli.main(["trials", "--help"]) == 0


def test_the_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"offworld {cli.version()}\n"


@pytest.mark.parametrize(
    "words",
    [
        [name, *([verb] if verb else [])]
        for name, command in cli.COMMANDS.items()
        for verb in [*(command.verbs or [""]), *command.others]
    ],
    ids=" ".join,
)
def test_every_command_and_verb_has_help(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*words, "--help"])
    assert stopped.value.code == 0
    assert f"offworld {' '.join(words)}" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["data", "stats"], ["status"], ["demo"]], ids=" ".join)
def test_an_unknown_flag_is_a_usage_error(words: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*words, "--no-such-flag"])
    assert stopped.value.code == 2


@pytest.mark.parametrize("name", cli.EXPECTED)
def test_every_expected_error_exists(name: str) -> None:
    module, _, cls = name.rpartition(".")
    kind = getattr(importlib.import_module(module), cls)
    assert issubclass(kind, Exception)
    assert cli.expected_code(kind.__new__(kind)) == cli.EXPECTED[name]


def test_every_exit_code_has_one_name_and_one_line_of_help() -> None:
    assert all(isinstance(code, ExitCode) for code in cli.EXPECTED.values())
    assert cli.__doc__ is not None
    assert [int(n) for n in re.findall(r"\b\d\b", cli.__doc__)] == [code.value for code in ExitCode]


def test_what_a_person_can_mend_is_one_line_and_its_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["data", "stats", "--store", str(tmp_path)]) == ExitCode.BAD_DATA
    told = capsys.readouterr().err
    assert told.startswith("offworld: no store at")
    assert "Traceback" not in told
    missing = str(tmp_path / "absent.toml")
    assert cli.main(["learner", "--config", missing]) == ExitCode.CANNOT_START
    assert "absent.toml: no such file" in capsys.readouterr().err


def test_a_learner_that_does_not_answer_is_code_4(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        assert cli.main(["status", "--learner", address]) == ExitCode.PEER_UNREACHABLE
    assert address in capsys.readouterr().err


def test_a_crash_shows_its_traceback_and_is_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken_command.py").write_text("def main(argv):\n    raise RuntimeError('bug')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cli.run("broken_command", []) == ExitCode.CRASHED
    assert "RuntimeError: bug" in capsys.readouterr().err


def test_a_missing_part_of_the_installation_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "needs_ray.py").write_text(
        "def main(argv):\n    raise ModuleNotFoundError('No module named ray', name='ray')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cli.run("needs_ray", []) == ExitCode.CANNOT_START
    assert "ray" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom services import cli, console\n"
        "def main(argv):\n"
        "    for i in range(100_000):\n        console.emit_json({'line': i})\n    return 0\n"
        "sys.modules['endless'] = sys.modules['__main__']\n"
        "sys.exit(cli.run('endless', []))\n"
    )
    path = tmp_path / "endless.py"
    path.write_text(script)
    process = subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(cli.__file__).parents[1],
        env={"PYTHONPATH": str(Path(cli.__file__).parents[1])},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline()) == {"line": 0}
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr.read() == b""
    process.stderr.close()
