"""The configuration: files, flags on top, and what is refused, with which words."""

from __future__ import annotations

import enum
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from services import config, config_text


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True)
class SlowConfig:
    steps: int = 3


@dataclass(frozen=True, kw_only=True)
class FastConfig:
    rate: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Camera:
    name: str
    shape: tuple[int, ...] = (64, 64)


@dataclass(frozen=True, kw_only=True)
class Limits:
    speed_m_s: float = 0.25
    """Fastest motion allowed. [m/s]"""
    ceiling_m: float | None = 0.4

    def __post_init__(self) -> None:
        if self.speed_m_s <= 0:
            raise ValueError(f"speed_m_s must be positive, got {self.speed_m_s}")


@dataclass(frozen=True, kw_only=True)
class Root:
    """A robot."""

    store: Path = Path("runs/store")
    seed: int = 0
    is_on: bool = True
    colour: Colour = Colour.RED
    mode: Literal["sim", "real"] = "sim"
    box: tuple[float, float, float] = (0.0, 0.0, 0.0)
    note: str = ""
    limits: Limits = field(default_factory=Limits)
    cameras: tuple[Camera, ...] = ()
    algorithm: SlowConfig | FastConfig = field(default_factory=SlowConfig)


FULL = """
store = "somewhere"
seed = 7
is_on = false
colour = "blue"
mode = "real"
box = [1, 2, 3.5]
note = "a \\"quoted\\" line\\n"
[limits]
speed_m_s = 1
ceiling_m = "none"
[[cameras]]
name = "front"
[[cameras]]
name = "wrist"
shape = [8, 8, 3]
[algorithm]
kind = "fast"
rate = 2
"""

EXPECTED = Root(
    store=Path("somewhere"),
    seed=7,
    is_on=False,
    colour=Colour.BLUE,
    mode="real",
    box=(1.0, 2.0, 3.5),
    note='a "quoted" line\n',
    limits=Limits(speed_m_s=1.0, ceiling_m=None),
    cameras=(Camera(name="front"), Camera(name="wrist", shape=(8, 8, 3))),
    algorithm=FastConfig(rate=2.0),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "robot.toml"
    path.write_text(FULL)
    return path


def read(tmp_path: Path, text: str) -> Root:
    path = tmp_path / "it.toml"
    path.write_text(text)
    return config.load(Root, ["--config", str(path)], prog="test")


def test_a_file_alone_gives_the_tree(file: Path) -> None:
    assert config.load(Root, ["--config", str(file)], prog="test") == EXPECTED


def test_flags_win_over_the_file_and_leave_the_rest(file: Path) -> None:
    flags = ["--seed", "9", f"--config={file}", "--limits.ceiling-m", "0.5", "--is-on"]
    loaded = config.load(Root, flags, prog="test")
    assert (loaded.seed, loaded.limits.ceiling_m, loaded.is_on) == (9, 0.5, True)
    assert loaded.cameras == EXPECTED.cameras
    assert loaded.algorithm == EXPECTED.algorithm


def test_without_a_file_the_defaults_hold() -> None:
    assert config.load(Root, [], prog="test") == Root()


def test_the_default_lies_under_the_file(tmp_path: Path) -> None:
    path = tmp_path / "it.toml"
    path.write_text("[limits]\nceiling_m = 0.1\n")
    default = Root(seed=5, limits=Limits(speed_m_s=0.125))
    loaded = config.load(Root, ["--config", str(path)], prog="test", default=default)
    assert loaded == Root(seed=5, limits=Limits(speed_m_s=0.125, ceiling_m=0.1))


@pytest.mark.parametrize("original", [Root(), EXPECTED])
def test_what_is_printed_reads_back_as_the_same_tree(original: Root) -> None:
    text = config_text.to_toml(original)
    assert config.build(Root, tomllib.loads(text), file="printed") == original


def test_the_printed_form_carries_the_docstrings_as_comments() -> None:
    assert "# Fastest motion allowed. [m/s]\nspeed_m_s = 0.25" in config_text.to_toml(Root())


def test_print_config_writes_the_merged_tree_and_stops(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        config.load(Root, ["--config", str(file), "--print-config", "--seed", "9"], prog="test")
    assert stopped.value.code == 0
    assert tomllib.loads(capsys.readouterr().out)["seed"] == 9


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sed = 3", ("unknown key 'sed'", "'seed'", "it.toml")),
        ("[limits]\nspeed = 3", ("unknown key 'limits.speed'", "'limits.speed_m_s'")),
        ("[[cameras]]\nname='a'\nshpe=[1]", ("'cameras[0].shpe'", "'cameras[0].shape'")),
        ("[algorithm]\nkind='fast'\nsteps=3", ("unknown key 'algorithm.steps'",)),
        ("[algorithm]\nkind='quick'", ("algorithm.kind", "['fast', 'slow']", "'quick'")),
        ("seed = 1.5", ("seed: expected int, got 1.5",)),
        ("seed = true", ("seed: expected int, got True",)),
        ("is_on = 1", ("is_on: expected bool",)),
        ("colour = 'green'", ("colour: expected one of 'red', 'blue', got 'green'",)),
        ("mode = 'both'", ("mode: expected one of 'sim', 'real'",)),
        ("box = [1, 2]", ("box: expected 3 values, got 2",)),
        ("limits = 3", ("limits: expected a table",)),
        ("[limits]\nspeed_m_s = -1", ("limits: speed_m_s must be positive, got -1",)),
        ("[limits]\nceiling_m = 'x'", ('limits.ceiling_m: expected float or "none"',)),
        ("[[cameras]]\nshape = [1]", ("cameras[0]", "name")),
        ("seed = ", ("not TOML",)),
    ],
)
def test_a_wrong_file_is_refused_with_key_and_file(
    tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(config.ConfigError) as refused:
        read(tmp_path, text)
    for word in (*words, "it.toml"):
        assert word in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match="no such file"):
        config.load(Root, ["--config", str(tmp_path / "none.toml")], prog="test")
    with pytest.raises(config.ConfigError, match="needs the path"):
        config.load(Root, ["--config"], prog="test")


@pytest.mark.parametrize("flags", [["--sed", "3"], ["--seed", "x"], ["--limits.speed-m-s", "-1"]])
def test_a_wrong_flag_is_a_usage_error(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        config.load(Root, flags, prog="test")
    assert stopped.value.code == 2
    assert "seed" in capsys.readouterr().err or "speed" in flags[0]
