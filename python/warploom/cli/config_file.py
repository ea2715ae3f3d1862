"""Options of a command from a file: TOML, YAML, or JSON as the config.json of a run is."""

import difflib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from warploom.errors import ArgumentError
from warploom.ground.atomic import expanded, read_whole
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

    A key is what --help calls an option or an argument, with - or _. Of a command that takes left_out "settings" a table
    "arguments" has the model's, as --set has. left_out: parameters that no file may hold. Raises ArgumentError for a file or a
    key that is not usable."""

    def read(context: typer.Context, path: str | None) -> str | None:
        if path is None:
            return None
        found = _read(expanded(path))
        known = {_key(p): p for p in context.command.params if p.name not in left_out and p.name != "config_file"}
        if "settings" in left_out:
            context.meta[_ARGUMENTS] = _table(path, found.pop("arguments", {}))
        values = {}
        for written, value in found.items():
            if not isinstance(written, str):  # YAML has them
                raise ArgumentError(f"{path}: the key {written!r} is no text; expected names of options")
            key = written.replace("-", "_")
            if key in _WRITTEN_BY_A_RUN or value is None:
                continue
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean {near[0]}? {context.info_name} knows" if near else "expected names of options:"
                raise ArgumentError(f"{path}: unknown key {written!r}; {hint} {', '.join(sorted(known))}")
            values[str(known[key].name)] = _as_given(path, written, value, known[key])
        context.default_map = {**(context.default_map or {}), **values}
        return path

    return read


def add_option(command: Any) -> None:
    """Gives a command --config, once; one that has its own keeps it."""
    if any(p.name == "config_file" for p in command.params):
        return
    made = typer.Typer(add_completion=False)

    @made.command()
    def only(
        config_file: Annotated[
            str | None,
            typer.Option(
                "--config", metavar="FILE", is_eager=True, expose_value=False, callback=from_file(), show_default=False,
                help="Options from a TOML, YAML or JSON file; what the command line says goes before it.",
            ),
        ] = None,
    ) -> None:  # fmt: skip
        """Only its option is taken."""

    command.params.append(typer.main.get_command(made).params[0])


def _key(param: Any) -> str:
    """What --help calls it: the longest name of an option, the metavar of an argument."""
    if param.param_type_name == "argument":
        return str(param.metavar or param.name).strip("[]").lower()
    return str(max(param.opts, key=len)).lstrip("-").replace("-", "_")


def _table(path: Any, arguments: Any) -> dict[str, Any]:
    if not isinstance(arguments, dict) or not all(isinstance(name, str) for name in arguments):
        raise ArgumentError(f"{path}: arguments is no table of the model's arguments, such as {{size = 48}}")
    return arguments


def _as_given(path: Any, written: str, value: Any, param: Any) -> Any:
    """The value as the command line would have it: text, or true and false of a switch; a list where it takes several."""
    several = bool(getattr(param, "multiple", False)) or param.nargs == -1
    items = value if several and isinstance(value, list) else [value]
    for item in items:
        if not isinstance(item, (str, int, float)):
            raise ArgumentError(f"{path}: {written} is {type(item).__name__}; expected what {_shown(param)} takes")
        is_switch = bool(getattr(param, "is_flag", False))
        if is_switch != isinstance(item, bool):
            raise ArgumentError(f"{path}: {written} is {item!r}; expected {'true or false' if is_switch else 'a value'}")
    given = [item if isinstance(item, bool) else str(item) for item in items]
    return given if several else given[0]


def _shown(param: Any) -> str:
    return str(param.metavar or param.name) if param.param_type_name == "argument" else str(max(param.opts, key=len))


def arguments_of(context: typer.Context) -> dict[str, Any]:
    """The model's arguments that the file of --config had."""
    return dict(context.meta.get(_ARGUMENTS, {}))


def _read(path: Path) -> dict[str, Any]:
    kind = _KINDS.get(path.suffix.lower(), "TOML")
    parse = {"JSON": json.loads, "YAML": _yaml, "TOML": tomllib.loads}[kind]
    try:
        if path.stat().st_size > _LARGEST:
            raise ArgumentError(f"{path} has more than {_LARGEST >> 10} KiB: no file of options")
        text = read_whole(path).decode()
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
