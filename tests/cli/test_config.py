"""Options from a file: TOML, YAML, or a run's config.json; the command line goes before it, of every command that takes one."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from warploom.cli import main
from warploom.cli.app import app
from warploom.cli.words import CONFIGURED

RUN = 'data = "patches"\nlimit = 16\nlimit_test = 4\nbatch-size = 8\nlr = 0.002\nkeep_best = true\nmodel = "gray_autoencoder"\n'
RUN += "[arguments]\nsize = 16\n"


def config_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "config.json").read_text()))


def test_a_file_names_options_and_a_run_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(f'epochs = 2\nout = "{tmp_path / "first"}"\n{RUN}')
    assert main(["train", "--config", str(tmp_path / "run.toml"), "--epochs", "1", "--seed", "3"]) == 0
    config = config_of(tmp_path / "first")
    wanted = {"epochs": 1, "seed": 3, "lr": 0.002, "batch_size": 8, "limit": 16, "keep_best": True, "model": "gray_autoencoder"}
    assert {key: config[key] for key in wanted} == wanted
    assert config["arguments"]["size"] == 16
    again = ["train", "--config", str(tmp_path / "first" / "config.json"), "--out", str(tmp_path / "second")]
    assert main(again) == 0
    assert config_of(tmp_path / "second") == config
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second")]
    assert weights[0] == weights[1]
    assert main([*again[:-1], str(tmp_path / "third"), "--set", "size=32", "--lr", "0.004"]) == 0
    assert config_of(tmp_path / "third")["arguments"]["size"] == 32
    assert config_of(tmp_path / "third")["lr"] == 0.004


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch = 3", "unknown key 'epoch'; did you mean epochs?"),
        ("epoch = 3", "train knows accumulate, batch_size, "),
        ("quantum = 3", "unknown key 'quantum'; expected names of options: accumulate, "),
        ("resume = 'x'", "unknown key 'resume'"),
        ("epochs = 1.5", "Invalid value for '--epochs'"),
        ("epochs = 0", "0 is out of range: expected at least 1"),
        ("epochs = [1]", "epochs is list; expected what --epochs takes"),
        ("limit = true", "limit is True; expected a value"),
        ("skip_bad = 3", "skip_bad is 3; expected true or false"),
        ("arguments = 3", "arguments is no table"),
        ("[arguments]\nsise = 3", "has no argument 'sise'"),
        ("a = ", "is not TOML: "),
        ("model = 'nosuch'", "unknown model 'nosuch'"),
    ],
)
def test_a_bad_file_is_one_sentence(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.toml").write_text(text)
    assert main(["train", "--config", str(tmp_path / "run.toml"), "--data", "patches", "--out", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("warploom: error: ")
    assert said in err
    assert not (tmp_path / "run").exists()


needs_yaml = pytest.mark.skipif(importlib.util.find_spec("yaml") is None, reason="PyYAML is not installed")
YAML = "# as in RUN\ndata: patches\nlimit: 16\nlimit_test: 4\nbatch-size: 8\nlr: 2e-3\nkeep_best: yes\nmodel: gray_autoencoder\n"


@needs_yaml
@pytest.mark.parametrize("ending", ["yaml", "yml", "YAML"])
def test_yaml_is_a_file_of_options_too(ending: str, tmp_path: Path) -> None:
    (tmp_path / f"run.{ending}").write_text(f"epochs: 1\nout: {tmp_path / 'run'}\n{YAML}arguments:\n  size: 16\n")
    assert main(["train", "--config", str(tmp_path / f"run.{ending}"), "--batch-size", "4"]) == 0
    config = config_of(tmp_path / "run")
    wanted = {"epochs": 1, "lr": 0.002, "batch_size": 4, "limit": 16, "keep_best": True, "model": "gray_autoencoder"}
    assert {key: config[key] for key in wanted} == wanted
    assert config["arguments"]["size"] == 16


@needs_yaml
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch: 3", "unknown key 'epoch'; did you mean epochs?"),
        ("epochs: [1]", "epochs is list; expected what --epochs takes"),
        ("seed: 2020-01-01", "seed is date; expected what --seed takes"),
        ("model: no", "model is False; expected a value"),
        ("on: 3", "the key True is no text"),
        ("arguments: {1: 2}", "arguments is no table"),
        ("a: [", "is not YAML: while parsing"),
        ("a: 1\n---\nb: 2", "is not YAML: expected a single document"),
        ("!!python/object/apply:os.system ['touch was_run']", "is not YAML: could not determine a constructor"),
        ("a: &a [1, 1]\nb: &b [*a, *a]\narguments: {size: *b}", "it has references"),
        ("[" * 3000, "is not YAML: its lists and tables lie in each other more than 20 deep"),
        ("- 1", "holds no table of options"),
    ],
)
def test_bad_yaml_is_one_sentence(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(text)
    assert main(["train", "--config", "run.yaml", "--data", "patches", "--out", "run"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("warploom: error: ")
    assert err.count("\n") == 1
    assert said in err
    assert [p.name for p in tmp_path.iterdir()] == ["run.yaml"]


def test_yaml_without_its_library_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "run.yaml").write_text("epochs: 1")
    assert main(["train", "--config", str(tmp_path / "run.yaml")]) == 2
    assert "a YAML file needs PyYAML: pip install PyYAML" in capsys.readouterr().err


def test_what_is_no_file_of_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "broken.json").write_text('{"epochs": ')
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "long.toml").write_text("#" * (2 << 20))
    for name, said in (
        ("list.json", "holds no table of options"), ("broken.json", "is not JSON"), ("deep.json", "is not JSON"),
        ("bytes.toml", "is not TOML"), ("long.toml", "no file of options"), ("nosuch.toml", "No such file"),
        (".", "cannot be read"),
    ):  # fmt: skip
        assert main(["train", "--config", str(tmp_path / name)]) == 2, name
        assert said in capsys.readouterr().err, name
    (tmp_path / "run.toml").write_text("epochs = 1")
    assert main(["train", "--config", str(tmp_path / "run.toml"), "--resume", str(tmp_path)]) == 2
    assert "exclude each other" in capsys.readouterr().err


def configured(group: Any = None, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """The words that lead to a command of those panels, and the command."""
    group = get_command(app) if group is None else group
    found = []
    for name in group.commands:
        command = group.get_command(None, name)
        if hasattr(command, "commands"):
            found += configured(command, (*path, name)) if command.rich_help_panel in CONFIGURED else []
        elif path or command.rich_help_panel in CONFIGURED:
            found.append(((*path, name), command))
    return found


def keys(command: Any) -> dict[str, Any]:
    """Its parameters by what --help calls them."""
    found = {}
    for param in command.params:
        name = max(param.opts, key=len).lstrip("-") if param.param_type_name == "option" else param.metavar.strip("[]").lower()
        found[name.replace("-", "_")] = param
    del found["config"]
    return found


USING = configured()
every_one = pytest.mark.parametrize(("path", "command"), USING, ids=[" ".join(path) for path, _ in USING])


def test_the_commands_that_use_a_network_are_among_them() -> None:
    named = {" ".join(path) for path, _ in USING}
    assert named >= {
        "evaluate",
        "reconstruct",
        "encode",
        "classify",
        "detect fit",
        "detect run",
        "export",
        "report",
        "bench",
        "search",
    }


@every_one
def test_every_command_takes_from_a_file_what_its_command_line_takes(path: tuple[str, ...], command: Any, tmp_path: Path) -> None:
    """Each option and argument by the name that --help shows; a 5 suits them all."""
    arguments, options, written = list[str](), dict[str, list[str]](), dict[str, Any]()
    for key, param in keys(command).items():
        several = param.nargs == -1 or getattr(param, "multiple", False)
        written[key] = True if getattr(param, "is_flag", False) else ["5"] if several else 5
        if param.param_type_name == "argument":
            arguments.append("5")
        else:
            name = max(param.opts, key=len)
            options[param.name] = [name] if param.is_flag else [name, "5"]
    (tmp_path / "run.json").write_text(json.dumps(written))
    by_file = command.make_context(path[-1], ["--config", str(tmp_path / "run.json")]).params
    assert by_file == command.make_context(path[-1], [*(word for words in options.values() for word in words), *arguments]).params
    for name, words in options.items():  # the command line goes before the file
        if len(words) > 1:
            after = command.make_context(path[-1], ["--config", str(tmp_path / "run.json"), words[0], "7"]).params
            assert [key for key in after if after[key] != by_file[key]] == [name]


@every_one
def test_a_key_that_a_command_does_not_know(
    path: tuple[str, ...], command: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = sorted(keys(command))
    nearly = f"{known[-1]}x"
    for key in (nearly, "quantum"):
        (tmp_path / "run.toml").write_text(f"{key} = 3")
        assert main([*path, "--config", str(tmp_path / "run.toml")]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert err.startswith(f"warploom: error: {tmp_path / 'run.toml'}: unknown key {key!r}; ")
        assert err.endswith(f" {', '.join(known)}\n")
        assert (f"did you mean {known[-1]}? " in err) == (key == nearly)
