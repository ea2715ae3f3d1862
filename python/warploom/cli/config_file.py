"""Options of a command from a file: TOML, YAML, or JSON as the config.json of a run is."""

import difflib
import json
import sys
from pathlib import Path
from typing import Any

import typer

from warploom.errors import ArgumentError
from warploom.ground.atomic import expanded
from warploom.ground.optional import needed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_ARGUMENTS = f"{__name__}.arguments"  # where a command finds those of its model
_WRITTEN_BY_A_RUN = {"fingerprint", "instructions"}  # what it found, not what it was asked for
_LARGEST = 1 << 17
_DEEPEST = 20
_KINDS = {".json": "JSON", ".yaml": "YAML", ".yml": "YAML"}  # by a file's ending; any other is TOML


def from_file(*left_out: str) -> Any:
    """The callback of an eager option --config: what the file names are the command's defaults, below its command line.

    A key is an option's name, with - or _; a table "arguments" has those of the model, as --set has. left_out: options
    that no file may hold. Raises ArgumentError for a file or a key that is not usable."""

    def read(context: typer.Context, path: Path | None) -> Path | None:
        if path is None:
            return None
        found = _read(expanded(path))
        options = {str(p.name): p for p in context.command.params if p.name not in left_out}
        arguments = found.pop("arguments", {})
        if not isinstance(arguments, dict) or not all(isinstance(name, str) for name in arguments):
            raise ArgumentError(f"{path}: arguments is no table of the model's arguments, such as {{size = 48}}")
        values = {}
        for written, value in found.items():
            if not isinstance(written, str):  # YAML has them
                raise ArgumentError(f"{path}: the key {written!r} is no text; expected names of options")
            key = written.replace("-", "_")
            if key in _WRITTEN_BY_A_RUN or value is None:
                continue
            if key not in options:
                near = difflib.get_close_matches(key, options, 1)
                hint = f"; did you mean {near[0]}?" if near else f"; expected names of options: {', '.join(sorted(options))}"
                raise ArgumentError(f"{path}: unknown key {written!r}{hint}")
            if not isinstance(value, (str, int, float)):
                raise ArgumentError(f"{path}: {written} is {type(value).__name__}; expected what --{key.replace('_', '-')} takes")
            is_switch = bool(getattr(options[key], "is_flag", False))
            if is_switch != isinstance(value, bool):
                raise ArgumentError(f"{path}: {written} is {value!r}; expected {'true or false' if is_switch else 'a value'}")
            values[key] = value
        context.default_map = {**(context.default_map or {}), **values}
        context.meta[_ARGUMENTS] = arguments
        return path

    return read


def arguments_of(context: typer.Context) -> dict[str, Any]:
    """The model's arguments that the file of --config had."""
    return dict(context.meta.get(_ARGUMENTS, {}))


def _read(path: Path) -> dict[str, Any]:
    kind = _KINDS.get(path.suffix.lower(), "TOML")
    parse = {"JSON": json.loads, "YAML": _yaml, "TOML": tomllib.loads}[kind]
    try:
        if path.stat().st_size > _LARGEST:
            raise ArgumentError(f"{path} has more than {_LARGEST >> 10} KiB: no file of options")
        text = path.read_text(encoding="utf-8")
        found = parse(text)
    except OSError as error:
        raise ArgumentError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # of both formats and of UTF-8
        raise ArgumentError(f"{path} is not {kind}: {error}") from None
    if not isinstance(found, dict):
        raise ArgumentError(f"{path} holds no table of options")
    return found


def _yaml(text: str) -> Any:
    """Plain values only: no tag makes an object. References are refused, since a few lines of them stand for gigabytes."""
    yaml = needed("yaml", "PyYAML", "a YAML file")
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it has references (*name); write the values out")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:  # each level costs the parser a look at all of them
                raise ValueError(f"its lists and tables lie in each other more than {_DEEPEST} deep")
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:  # in several lines
        raise ValueError(" ".join(str(error).split())) from None
    return {} if found is None else found
