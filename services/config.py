"""Configuration: a frozen dataclass tree from a TOML file, with flags on top.

Every process reads its settings here and nowhere else. The file gives the defaults, flags win, and
whatever the tree refuses is reported with the key and the file it stands in. An optional value that
is off is written `"none"`: TOML has no null.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import sys
import tomllib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from services.config_text import NONE, kind_name, options_of, to_toml

C = TypeVar("C")


class ConfigError(ValueError):
    """A configuration cannot be used; the message names the key, the file and what is expected."""


def load(kind: type[C], argv: Sequence[str], *, prog: str, default: C | None = None) -> C:
    """Reads `[--config FILE.toml] [--print-config] [--flag ...]` into a `kind`.

    Args:
        kind: Dataclass at the root of the tree.
        argv: Arguments after the command's name.
        prog: Name of the command, for help and messages.
        default: Values under the file's; the dataclass's own defaults where absent.

    Returns:
        The configuration.

    Raises:
        ConfigError: The file does not exist, is not TOML, or does not fit `kind`.
        SystemExit: 0 after `--help` and `--print-config`, 2 when a flag is wrong.
    """
    import tyro

    path, is_print_only, flags = _split(argv)
    if path is not None:
        default = build_file(kind, path, default)
    markers = (tyro.conf.AvoidSubcommands,)
    if default is None:
        config = tyro.cli(kind, args=flags, prog=prog, config=markers)
    else:
        config = tyro.cli(kind, args=flags, prog=prog, config=markers, default=default)
    if is_print_only:
        sys.stdout.write(to_toml(config))
        raise SystemExit(0)
    return config


def build_file(kind: type[C], path: Path, default: C | None = None) -> C:
    """Reads a TOML file into a `kind`; ConfigError where that cannot be done."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    return build(kind, raw, file=str(path), default=default)


def build(kind: Any, value: Any, *, file: str, where: str = "", default: Any = None) -> Any:
    """Turns parsed TOML into `kind`.

    Args:
        kind: A type annotation: a dataclass, a union of dataclasses, a scalar, a tuple, optional.
        value: What the file says.
        file: Where it says so, for messages.
        where: Dotted key of `value`; empty at the root.
        default: Instance that gives the fields which the file leaves out.

    Raises:
        ConfigError: An unknown key, a wrong type or a value that the dataclass refuses.
    """
    options = options_of(kind)
    classes = [o for o in options if isinstance(o, type) and dataclasses.is_dataclass(o)]
    if type(None) in options and (value is None or value == NONE):
        return None
    if classes:
        return _build_class(classes, value, file=file, where=where, default=default)
    for option in options:
        origin, arguments = typing.get_origin(option), typing.get_args(option)
        if origin is tuple and isinstance(value, list | tuple):
            return _build_tuple(arguments, value, file=file, where=where)
        if origin in (dict, Mapping) and isinstance(value, Mapping):
            return {
                str(k): build(arguments[1], v, file=file, where=f"{where}.{k}")
                for k, v in value.items()
            }
        if origin is typing.Literal and value in arguments:
            return value
        if isinstance(option, type) and (made := _scalar(option, value)) is not None:
            return made
    raise ConfigError(f"{file}: {where}: expected {_describe(options)}, got {value!r}")


def _split(argv: Sequence[str]) -> tuple[Path | None, bool, list[str]]:
    path, is_print_only, flags = None, False, []
    rest = iter(argv)
    for argument in rest:
        if argument == "--config":
            following = next(rest, None)
            if following is None:
                raise ConfigError("--config needs the path of a TOML file")
            path = Path(following)
        elif argument.startswith("--config="):
            path = Path(argument.removeprefix("--config="))
        elif argument == "--print-config":
            is_print_only = True
        else:
            flags.append(argument)
    return path, is_print_only, flags


def _build_class(
    classes: Sequence[type], value: Any, *, file: str, where: str, default: Any
) -> Any:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{file}: {where}: expected a table, got {value!r}")
    fields = dict(value)
    chosen = type(default) if type(default) in classes else classes[0]
    if len(classes) > 1 and "kind" in fields:
        names = {kind_name(c): c for c in classes}
        name = fields.pop("kind")
        if name not in names:
            raise ConfigError(f"{file}: {where}.kind: one of {sorted(names)}, got {name!r}")
        chosen = names[name]
    hints = typing.get_type_hints(chosen)
    known = {f.name: f for f in dataclasses.fields(chosen) if f.init}
    prefix = f"{where}." if where else ""
    for key in fields:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            nearest = f"; did you mean {prefix + near[0]!r}?" if near else ";"
            raise ConfigError(
                f"{file}: unknown key {prefix + key!r}{nearest} "
                f"Known here: {', '.join(sorted(known))}"
            )
    base = default if type(default) is chosen else None
    made: dict[str, Any] = {}
    for name in known:
        under = getattr(base, name) if base is not None else _field_default(known[name])
        if name in fields:
            made[name] = build(
                hints[name], fields[name], file=file, where=prefix + name, default=under
            )
        elif base is not None:
            made[name] = under
    try:
        return chosen(**made)
    except (TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{file}: {where or 'top level'}: {error}") from error


def _field_default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return None


def _build_tuple(arguments: Sequence[Any], value: Sequence[Any], *, file: str, where: str) -> Any:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        kinds: Sequence[Any] = [arguments[0]] * len(value)
    elif len(arguments) == len(value):
        kinds = arguments
    else:
        raise ConfigError(f"{file}: {where}: expected {len(arguments)} values, got {len(value)}")
    return tuple(
        build(kind, item, file=file, where=f"{where}[{i}]")
        for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _scalar(kind: type, value: Any) -> Any:
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if issubclass(kind, enum.Enum) and value in {m.value for m in kind}:
        return kind(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    return None


def _describe(options: Sequence[Any]) -> str:
    names = []
    for option in options:
        if option is type(None):
            names.append(f'"{NONE}"')
        elif typing.get_origin(option) is typing.Literal:
            names.append("one of " + ", ".join(repr(a) for a in typing.get_args(option)))
        elif isinstance(option, type) and issubclass(option, enum.Enum):
            names.append("one of " + ", ".join(repr(m.value) for m in option))
        else:
            names.append(getattr(option, "__name__", str(option)))
    return " or ".join(names)
