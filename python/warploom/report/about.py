"""The sections of a page that say how the run was made and on what: configuration and environment."""

import dataclasses
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import warploom
from warploom.ground import hardware
from warploom.report.evidence import Evidence
from warploom.report.markup import Content, Markup, el, facts
from warploom.report.numbers import note, section, short_paths

_LIBRARIES = ("numpy", "Pillow", "matplotlib", "scikit-learn")
_PLACES = ("data", "data_dir", "model")  # settings that may be paths: only their last part is for other people's eyes


def configuration(found: Evidence) -> Markup:
    """What the run was asked for, defaults included. Of paths the last part only: pages are passed on."""
    if found.config is None:
        told = found.trained.notes if found.trained is not None else []
        why = [f"{n[0].upper()}{n[1:]}." for n in told] or ["A model's file tells nothing of how it was trained."]
        return section("configuration", "Configuration", [note(short_paths(n)) for n in why])
    values = dataclasses.asdict(found.config)
    shown = [(key, _setting(key, value)) for key, value in values.items() if value not in (None, {}, "", False)]
    return section("configuration", "Configuration", facts(shown))


def _setting(key: str, value: Any) -> Content:
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items())
    if key in _PLACES and os.sep in str(value):
        return f"…/{Path(str(value)).name}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def environment(found: Evidence) -> Markup:
    """Where it was trained, as far as its files tell, and what made this page."""
    trained: list[tuple[str, Content]] = []
    if found.rows:
        last = found.rows[-1]
        trained.append(("trained with", hardware.place(str(last["version"]), str(last["device"]))))
        if "images_per_second" in last:
            trained.append(("speed", f"{last['images_per_second']:,.1f} images/s in the last epoch"))
    if found.config is not None and found.config.instructions:
        trained.append(("instruction set", found.config.instructions))
    here = (
        next((d for d in hardware.devices() if d["usable"] and d["name"] == found.model.device), None) if found.trained else None
    )
    made: list[tuple[str, Content]] = [("warploom", f"{warploom.__version__}{_commit()}"), ("Python", platform.python_version())]
    made += [(name, version) for name in _LIBRARIES if (version := _version(name))]
    made += [("system", f"{platform.system()} {platform.machine()}"), ("processor", _processor())]
    if here is not None:
        made.append(("page computed on", f"{here['name']}: {here['description']}"))
    parts: list[Content] = [el("h3", "Training"), facts(trained)] if trained else []
    return section("environment", "Environment", parts, el("h3", "This page"), facts(made))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return np.__version__ if name == "numpy" else ""


def _commit() -> str:
    """Of the checkout that the package runs from, if it does."""
    package = Path(warploom.__file__).resolve().parent
    root = package.parent.parent
    if not (root / ".git").exists() or package != root / "python/warploom":
        return ""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty"], check=False, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return f", commit {done.stdout.strip()}" if done.returncode == 0 and done.stdout.strip() else ""


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
