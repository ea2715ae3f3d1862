"""What can run here, and the choice of a device and a version from what the user asked for."""

import os
import re
from functools import cache
from typing import Any, NamedTuple, TypedDict

from warploom import _core
from warploom.errors import ArgumentError, DeviceError, UnsupportedError
from warploom.ground import emulated_builds

PRECISIONS = ("fp32", "fp32-exact", "tf32", "bf16", "fp16")
KINDS = ("cpu", "cuda", "emulated", "emulated:checked", "emulated:counting")


class Device(TypedDict):
    """One row of devices()."""

    name: str  # as passed to device=
    kind: str
    usable: bool
    why: str  # why it is not usable, else ""
    description: str
    memory_bytes: int
    versions: list[str]


class Version(TypedDict):
    """One row of versions()."""

    name: str  # as passed to version=
    summary: str
    layout: str
    devices: list[str]  # usable devices it runs on here
    usable: bool
    why: str


class Choice(NamedTuple):
    """What runs: a device, the versions to try in that order, and a sentence where this is not what was asked for."""

    device: str
    versions: list[str]
    note: str

    @property
    def version(self) -> str:
        return self.versions[0]


@cache
def _libraries() -> list[dict[str, Any]]:
    """Asked once: the core loads its device libraries once, and single operations come through here."""
    libraries = _core.libraries()
    for kind, name in emulated_builds.DEVICES.items():
        if not any(library["kind"] == kind for library in libraries) and emulated_builds.find(name):
            try:
                emulated_builds.load(kind)  # compiled by an earlier run
            except DeviceError:
                continue  # said by _not_built
    return _core.libraries()


def prepare(device: str) -> None:
    """Compiles an emulated device that the installation left out, if it is one and was not compiled before: once, minutes."""
    if device in emulated_builds.DEVICES and not any(library["kind"] == device for library in _libraries()):
        emulated_builds.load(device)
        _libraries.cache_clear()
        _versions.cache_clear()


def _not_built(kind: str) -> str:
    if kind in emulated_builds.DEVICES:
        return emulated_builds.why_not(emulated_builds.DEVICES[kind])
    if kind == "cuda":
        why = emulated_builds.installed()["cuda_why_not"]
        return f"this build has no cuda library: {why}" if why else "this build has no cuda library"
    return f"this build has no {kind} kernel set"


@cache
def _versions() -> list[dict[str, Any]]:
    """What the libraries here hold, and the versions of an emulated device that is compiled when it is first used."""
    held = _core.versions()
    names = {v["name"] for v in held}
    return [*held, *(v for v in emulated_builds.versions() if v["name"] not in names)]


def devices() -> list[Device]:
    """Every device this build knows, usable or not, and why not."""
    rows: list[Device] = []
    libraries = _libraries()
    for kind in KINDS:
        found = [library for library in libraries if library["kind"] == kind]
        usable = [library for library in found if library["usable"]]
        if not usable:
            # The narrowest instruction set comes last: what stops it, such as a malformed variable, stops the others too.
            why = next((str(library["why"]) for library in reversed(found) if library["why"]), "") or _not_built(kind)
            same = found or [
                library for library in libraries if library["kind"] == "emulated" and kind in emulated_builds.DEVICES
            ]
            versions = [str(v) for v in same[0]["versions"]] if same else []
            if not same and kind in emulated_builds.DEVICES:
                versions = [str(v["name"]) for v in emulated_builds.versions()]
            rows.append(_row(kind, kind, False, why, {}, versions))
            continue
        library = usable[0]
        infos: list[dict[str, Any]] = library["devices"]
        for index, info in enumerate(infos):
            name = f"cuda:{index}" if kind == "cuda" else kind
            runs = [str(v) for v in library["versions"] if _capability(v) in (0, _capability_of(info))]
            rows.append(_row(name, kind, True, "", info, runs))
    return rows


def _capability(version: str) -> int:
    """The only compute capability that a version runs on, as 90 for 9.0; 0: any."""
    return next(int(v["compute_capability"]) for v in _versions() if v["name"] == version)


def _capability_of(info: dict[str, Any]) -> int:
    return 10 * int(info["compute_major"]) + int(info["compute_minor"])


def _row(name: str, kind: str, usable: bool, why: str, info: dict[str, Any], versions: list[str]) -> Device:
    text = str(info.get("name", ""))
    if kind == "cuda" and info:
        text += f", compute capability {info['compute_major']}.{info['compute_minor']}, {info['multiprocessors']} multiprocessors"
    elif info:
        text += f", {info['multiprocessors']} worker thread{'s' if info['multiprocessors'] != 1 else ''}"
    memory = int(info.get("memory_bytes", 0))
    return Device(name=name, kind=kind, usable=usable, why=why, description=text, memory_bytes=memory, versions=versions)


def versions() -> list[Version]:
    """Every kernel set this build holds, oldest first, and where it runs here."""
    here = devices()
    rows: list[Version] = []
    for v in _versions():
        usable = [d["name"] for d in here if d["usable"] and v["name"] in d["versions"]]
        why = "" if usable else _why_no_version(v["kinds"], here)
        rows.append(
            Version(name=v["name"], summary=v["summary"], layout=v["layout"], devices=usable, usable=bool(usable), why=why)
        )
    return sorted(rows, key=lambda row: row["name"] == "cpu")


def _why_no_version(kinds: list[str], here: list[Device]) -> str:
    emulated = next((d["why"] for d in here if d["name"] == "emulated"), "")
    if "emulated" in kinds and emulated.startswith(emulated_builds.NOT_YET):
        return f"emulated, {emulated}"
    return "none of its devices (" + ", ".join(kinds) + ") is usable here"


def instructions(device: str) -> str:
    """What the device's kernels were compiled for, such as avx2 or sm_90: two such sets may round differently."""
    kind = device.split(":")[0] if device.startswith("cuda") else device
    isa = os.environ.get("WARPLOOM_CPU_ISA") if kind == "cpu" else None
    asked = f"cpu_{isa}.so" if isa else ""  # as open_device() of csrc/core/registry.cpp chooses
    found = (library for library in _libraries() if library["kind"] == kind and library["usable"])
    library = next((library for library in found if asked in str(library["path"])), None)
    if library is None:
        return ""
    if kind == "cuda":
        return f"sm_{_capability_of(library['devices'][int(device.partition(':')[2] or 0)])}"
    return os.path.basename(str(library["path"])).partition(".")[0].removeprefix("cpu_")


def layouts(version: str) -> tuple[str, str]:
    """(activation layout, weight layout) of a version."""
    for v in _versions():
        if v["name"] == version:
            return v["layout"], v["weight_layout"]
    raise UnsupportedError(f"this build has no version {version!r}")


def check(version: str, precision: str = "fp32") -> dict[str, list[str]]:
    """The versions there are, and what kinds run them; ArgumentError for names that no device knows, before any is compiled."""
    known = {v["name"]: v["kinds"] for v in _versions()}
    if not isinstance(version, str) or (version != "auto" and version not in known):
        raise ArgumentError(f"unknown version {version!r}; expected one of auto, {', '.join(sorted(known))}")
    if precision not in PRECISIONS:
        raise ArgumentError(f"unknown precision {precision!r}; expected one of {', '.join(PRECISIONS)}")
    return known


def resolve(version: str = "auto", device: str = "auto", *, kernels_first: bool = False, precision: str = "fp32") -> Choice:
    """Device and version from what was asked for.

    device "auto": cuda if one is usable, else cpu. version "auto": the newest that the device runs; in float32, the newest with
    float32 convolutions of its own. A version for one compute capability only (v7) runs when it is asked for by name: no GPU has
    shown yet what it is worth. A version asked for by name with device "auto" and no usable cuda falls back with a note: to the
    cpu kernel set (training at a usable speed), or with kernels_first to that version's own kernels on the emulated device
    (single operations). What else is not there raises.
    """
    here = devices()
    known = check(version, precision)
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:\d+)?|emulated(:checked|:counting)?", device):
        raise ArgumentError(f"unknown device {device!r}; expected one of auto, cpu, cuda, cuda:N, {', '.join(KINDS[2:])}")
    if device != "auto":
        return _named(version, device, here, known, precision)

    cuda = next((d for d in here if d["kind"] == "cuda" and d["usable"]), None)
    if version == "cpu" or (cuda is None and version == "auto"):
        return _named(version, "cpu", here, known, precision)
    if cuda is not None:
        return _named(version, cuda["name"], here, known, precision)
    why = next(d["why"] for d in here if d["kind"] == "cuda")
    if kernels_first:
        return _named(version, "emulated", here, known, precision)
    choice = _named("cpu", "cpu", here, known, precision)
    note = (
        f"version {version} needs a CUDA device, and none is usable here ({why}); the cpu kernel set runs in its place. "
        f"With device emulated the {version} kernels themselves run, slowly"
    )
    return Choice(choice.device, choice.versions, note)


def of_worker(device: str, number: int) -> str:
    """The device of the worker with that number on its host: of several GPUs each has one, where none is named."""
    gpus = [d["name"] for d in devices() if d["kind"] == "cuda" and d["usable"]]
    return gpus[number % len(gpus)] if device in ("auto", "cuda") and gpus else device


def _named(version: str, device: str, here: list[Device], known: dict[str, list[str]], precision: str) -> Choice:
    kind = device.split(":")[0] if device.startswith("cuda") else device
    rows = [d for d in here if d["kind"] == kind]
    if kind in emulated_builds.DEVICES and not any(d["usable"] for d in rows):
        prepare(kind)
        rows = [d for d in devices() if d["kind"] == kind]
    if not any(d["usable"] for d in rows):
        raise DeviceError(f"device {device} is not usable: {rows[0]['why']}")
    name = "cuda:0" if device == "cuda" else device
    row = next((d for d in rows if d["name"] == name), None)
    if row is None:
        there = ", ".join(d["name"] for d in rows)
        raise DeviceError(f"there is no device {device}; this machine has {there}")
    if version != "auto":
        wanted = _capability(version)
        if version not in row["versions"] and kind in known[version] and wanted:
            others = [v for v in row["versions"] if v != "cpu"]
            raise UnsupportedError(
                f"version {version} needs compute capability {wanted // 10}.{wanted % 10}, and {row['description']} has another; "
                f"choose one of auto, {', '.join(others)}"
            )
        if version not in row["versions"]:
            raise UnsupportedError(
                f"version {version} does not run on device {device}: it runs on {', '.join(known[version])}; "
                f"on {device} choose one of auto, {', '.join(row['versions'])}"
            )
        return Choice(name, [version], "")
    if not row["versions"]:
        raise DeviceError(f"device {device} has no kernel set in this build")
    newest_first = [v for v in row["versions"][::-1] if not _capability(v)]
    if precision in ("fp32", "fp32-exact"):
        borrows = {v["name"]: bool(v["float32_from"]) for v in _versions()}
        newest_first.sort(key=lambda v: borrows[v])
    return Choice(name, newest_first, "")


def place(version: str, device: str) -> str:
    """Where something runs, in words."""
    return "cpu kernels" if (version, device) == ("cpu", "cpu") else f"version {version} on {device}"


def memory_bytes(device: str) -> int:
    """Memory of a device in bytes, 0 where it is not known."""
    for row in devices():
        if row["name"] == device:
            if row["memory_bytes"] or row["kind"] == "cuda":
                return row["memory_bytes"]
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return 0
