"""Configuration as text: a dataclass tree written as TOML, with its attribute docstrings.

The other direction is `services/config.py`. An optional value that is off is written `"none"`.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import json
import math
import textwrap
import types
import typing
from collections.abc import Mapping
from typing import Any

NONE = "none"


def to_toml(config: Any) -> str:
    """Returns the configuration as TOML, each key with the comment its class gives it."""
    lines: list[str] = []
    _emit(config, "", lines)
    return "\n".join(lines).strip() + "\n"


def options_of(kind: Any) -> tuple[Any, ...]:
    """Returns the members of a union, or the type itself."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return typing.get_args(kind)
    return (kind,)


def kind_name(cls: type) -> str:
    """Returns the name by which a file chooses `cls` in a union: `FowmConfig` is `fowm`."""
    return cls.__name__.removesuffix("Config").lower()


def _emit(config: Any, prefix: str, lines: list[str]) -> None:
    comments = field_comments(type(config))
    hints = typing.get_type_hints(type(config))
    tables: list[tuple[str, Any]] = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        is_table = dataclasses.is_dataclass(value) or isinstance(value, Mapping)
        is_array = isinstance(value, tuple) and any(dataclasses.is_dataclass(v) for v in value)
        if is_table or is_array:
            tables.append((field.name, value))
            continue
        if field.name in comments:
            lines.extend(f"# {line}" for line in textwrap.wrap(comments[field.name], 96))
        lines.append(f"{field.name} = {_value(value)}")
    for name, value in tables:
        key = prefix + name
        if comments.get(name):
            lines.append("")
            lines.extend(f"# {line}" for line in textwrap.wrap(comments[name], 96))
        for item in value if isinstance(value, tuple) else (value,):
            lines.extend(["", f"[[{key}]]" if isinstance(value, tuple) else f"[{key}]"])
            if isinstance(item, Mapping):
                lines.extend(f"{k} = {_value(v)}" for k, v in item.items())
                continue
            if sum(dataclasses.is_dataclass(o) for o in options_of(hints[name])) > 1:
                lines.append(f'kind = "{kind_name(type(item))}"')
            _emit(item, key + ".", lines)


def field_comments(cls: type) -> dict[str, str]:
    """Returns the attribute docstrings of a dataclass, by field; empty where there is no source."""
    comments: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(owner):
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        except (OSError, TypeError, SyntaxError):
            continue
        assert isinstance(body, ast.ClassDef)
        for node, after in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            ):
                comments[node.target.id] = " ".join(after.value.value.split())
    return comments


def _value(value: Any) -> str:
    if value is None:
        return f'"{NONE}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, enum.Enum):
        return _value(value.value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return repr(value)
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    # JSON's escapes are TOML's, apart from DEL, which JSON leaves as it is.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
