"""Who may know whom: the arrows of the design, read from #include lines, Python imports and a few words in the sources.

python -> bindings -> train -> graph -> core -> kernels/ops.h, kernels/device.h
kernels/vN -> kernels/common -> CUDA or kernels/emulator;   csrc/cpu -> kernels/ops.h, kernels/device.h
The floors of the Python package stand in FLOORS below.
kernels/ops/<name> holds all of an operation that versions share, each file at its place in these arrows: args.h is part of ops.h,
kernels.cu is a kernel file, cpu.cpp belongs to csrc/cpu (as do headers named *_cpu.h), graph.cpp to csrc/graph, loss.cpp and
optimizer.cpp to csrc/train.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED_ARGS = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "kernels/ops").glob("*/args.h"))
CONTRACT = {*(f"kernels/{name}" for name in ("ops.h", "args.h", "errand.h", "ops.def", "device.h", "interop.h")), *SHARED_ARGS}
CSRC_ORDER = ["core", "graph", "train", "bindings"]  # each may include itself and what stands before it
ENGINE_FILES = {"graph.cpp": "graph", "loss.cpp": "train", "optimizer.cpp": "train"}  # of an operation, and where they belong
SOURCES = ("*.h", "*.hpp", "*.cuh", "*.cu", "*.cpp", "*.cc", "*.def", "*.inc")


def files(folder: str, *patterns: str) -> list[Path]:
    return sorted(p for pattern in patterns or SOURCES for p in (ROOT / folder).rglob(pattern))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def includes(path: Path) -> list[str]:
    """The repository files that a source includes, as paths from the root; system headers are left out."""
    found = []
    for name in re.findall(r'^\s*#\s*include\s*"([^"]+)"', path.read_text(), re.MULTILINE):
        beside, from_root = (path.parent / name).resolve(), ROOT / name
        target = beside if beside.exists() else from_root
        assert target.exists(), f"{named(path)} includes {name}, which does not exist"
        found.append(named(target.resolve()))
    return found


def versions() -> list[str]:
    folders = re.findall(r"^WL_VERSION\(\s*\w+\s*,\s*(\w+)", (ROOT / "kernels/versions.def").read_text(), re.MULTILINE)
    return [*folders, "_template"]


def check(path: Path, allowed: list[str]) -> None:
    for target in includes(path):
        assert any(re.fullmatch(pattern, target) for pattern in allowed), f"{named(path)} must not include {target}"


def without_comments(path: Path) -> str:
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)


def test_every_version_is_one_folder() -> None:
    for folder in versions():
        if folder != "_template":
            assert list((ROOT / "kernels" / folder).glob("*.cu")), f"kernels/{folder} holds no kernel"


def test_the_contract_includes_nothing_else() -> None:
    for name in sorted(CONTRACT):
        check(ROOT / name, sorted(CONTRACT))
        assert "cuda_runtime" not in (ROOT / name).read_text(), f"{name} must not know CUDA"


@pytest.mark.parametrize("folder", versions())
def test_versions_share_only_common_and_tables(folder: str) -> None:
    for path in files(f"kernels/{folder}"):
        check(path, [*CONTRACT, r"kernels/common/.*", rf"kernels/{folder}/.*", r"kernels/\w+/table\.h", "kernels/ops/shared.h"])


def test_shared_operations_keep_to_the_arrows() -> None:
    kernel = [*CONTRACT, r"kernels/common/.*", r"kernels/ops/\w+\.(h|cuh)"]
    for path in files("kernels/ops"):
        own = rf"kernels/ops/{path.parent.name}/.*\.(h|cuh)"
        if path.name == "cpu.cpp" or path.name.endswith("_cpu.h"):
            check(path, [*CONTRACT, r"csrc/cpu/.*", r"kernels/ops/(\w+_cpu|normal|preconditions)\.h", own])
        elif path.name in ENGINE_FILES:
            below = CSRC_ORDER[: CSRC_ORDER.index(ENGINE_FILES[path.name]) + 1]
            check(path, [*CONTRACT, *(rf"csrc/{name}/.*" for name in below)])
        else:
            check(path, [*kernel, own])


def test_the_engine_lists_no_operation() -> None:
    """Operations, losses and optimizers register themselves from their folders: no file of the engine names one."""
    names: set[str] = set()
    for path in files("kernels/ops", *ENGINE_FILES):
        names |= set(re.findall(r'name\(\) const override \{ return "(\w+)"; \}', path.read_text()))
    assert {"conv2d", "mse", "sgd"} <= names
    passes = {"conv2d", "linear", "conv_transpose2d", "activation", "batch_norm", "max_pool2d", "upsample", "upsample_conv2d"}
    passes |= {"avg_pool2d", "conv2d_mean"}
    for path in [*files("csrc/graph"), *files("csrc/train")]:
        # A call of an entry says its name for messages; attributes have names of their own.
        text = re.sub(r'table\.\w+, "\w+"|attributes\.\w+\("\w+"', "", without_comments(path))
        found = set(re.findall(r'"(\w+)"', text)) & names
        if path.name == "passes.cpp":  # what may be folded into what is its business
            found -= passes
        if path.name in ("loss.h", "optimizer.h"):  # the kind where none is said
            found -= {"mse", "sgd"}
        assert not found, f"{named(path)} names {', '.join(sorted(found))}"


def test_every_shared_operation_is_one_folder() -> None:
    shared = re.findall(r"^WL_SHARED_OP\(\w+, (\w+)\)", (ROOT / "kernels/ops.def").read_text(), re.MULTILINE)
    structs = {
        name: args for args in SHARED_ARGS for name in re.findall(r"^struct (\w+) \{", (ROOT / args).read_text(), re.MULTILINE)
    }
    for args in sorted({structs[name] for name in shared}):
        folder = (ROOT / args).parent
        missing = {"kernels.cu", "cpu.cpp", "reference.py"} - {p.name for p in folder.iterdir()}
        assert not missing, f"{named(folder)} lacks {', '.join(sorted(missing))}"


def test_common_includes_only_itself_the_contract_and_the_emulator() -> None:
    for path in files("kernels/common"):
        allowed = [*CONTRACT, r"kernels/common/.*", "kernels/versions.def"]
        # The only files that choose between CUDA and the emulator: CUDA's words, and the PTX wrappers with their host models.
        if path.name in ("portable.cuh", "tensor_core.cuh", "async_copy.cuh", "async_barrier.cuh"):
            allowed.append(r"kernels/emulator/.*")
        check(path, allowed)


def test_the_emulator_depends_on_nothing_else() -> None:
    own = [*CONTRACT, r"kernels/emulator/.*"]
    for path in files("kernels/emulator"):
        if "selftest" in path.parts:  # its kernels are written as any version's are
            check(path, [*own, r"kernels/common/.*"])
        elif path.name.startswith("runtime"):
            check(path, [*own, "kernels/common/runtime.h"])
        else:
            check(path, own)


def test_the_lab_knows_the_emulator_and_nobody_knows_the_lab() -> None:
    for path in files("kernels/lab"):
        check(path, [*CONTRACT, r"kernels/emulator/.*", r"kernels/lab/.*"])
    for path in files("kernels/lab/include"):  # what programs see: not the runtime's inside
        assert "kernels/lab/state.h" not in includes(path), f"{named(path)} must not know the runtime's inside"
    for path in [*files("kernels"), *files("csrc")]:
        if "lab" not in path.relative_to(ROOT).parts:
            assert not any(t.startswith("kernels/lab/") for t in includes(path)), f"{named(path)} must not know the lab"


def test_kernels_never_include_the_engine() -> None:
    for path in files("kernels"):
        if "ops" in path.parts and (path.name in ("cpu.cpp", *ENGINE_FILES) or path.name.endswith("_cpu.h")):
            continue  # the engine's and the host kernel set's part of a shared operation
        for target in includes(path):
            assert target.startswith("kernels/"), f"{named(path)} must not include {target}"


@pytest.mark.parametrize("part", CSRC_ORDER)
def test_engine_arrows(part: str) -> None:
    below = CSRC_ORDER[: CSRC_ORDER.index(part) + 1]
    for path in files(f"csrc/{part}"):
        check(path, [*CONTRACT, *(rf"csrc/{name}/.*" for name in below)])


def test_the_host_kernel_set_stands_alone() -> None:
    for path in files("csrc/cpu"):
        # The matrices and what shapes must be, which know no CUDA.
        below = [r"csrc/cpu/.*", r"kernels/ops/\w+_cpu\.h", "kernels/common/schemes.h", "kernels/common/preconditions.h"]
        check(path, [*CONTRACT, *below])


def test_the_engine_never_includes_a_version() -> None:
    for path in files("csrc"):
        for target in includes(path):
            assert not any(target.startswith(f"kernels/{v}/") for v in versions()), f"{named(path)} must not include {target}"


def test_the_engine_knows_no_version_by_name() -> None:
    """Only the registry names versions; an engine that asks for "v3" is a special case where a mechanism should be."""
    for path in files("csrc"):
        names = re.findall(r'"(v\d+)"', without_comments(path))
        assert not names, f"{named(path)} names {names[0]}"


def test_cuda_words_stand_only_where_they_may() -> None:
    for path in files("kernels"):
        if {"emulator", "lab"} & set(path.relative_to(ROOT).parts) and "selftest" not in path.parts:
            continue  # they are CUDA's words, for the host compiler
        text, name = without_comments(path), named(path)
        if name != "kernels/common/launch.cuh":
            assert "<<<" not in text, f"{name} launches a kernel itself; call launch() of kernels/common/launch.cuh"
        if not name.startswith("kernels/common/"):
            assert not re.search(r"\basm\b", text), f"{name} holds inline PTX; it belongs into a wrapper in kernels/common"
            assert not re.search(r'#\s*include\s*[<"]cu(da|blas|dnn)', text), f"{name} includes a CUDA header; use portable.cuh"
            assert "__CUDACC__" not in text, f"{name} chooses between CUDA and the emulator; only portable.cuh does"


def test_no_vendor_library_computes_anything() -> None:
    for path in [*files("kernels"), *files("csrc"), *files("cmake", "*.cmake"), ROOT / "CMakeLists.txt"]:
        if named(path).startswith("kernels/lab/include/"):
            continue  # names that programs of other people include; nothing there computes
        found = re.search(r"\b(cublas|cudnn|cutlass|cusparse|openblas|mkl)\w*", path.read_text(), re.IGNORECASE)
        assert not found or path.suffix == ".md", f"{named(path)} mentions {found[0]}"


def test_names_of_kernels_do_not_tell_where_they_were_built() -> None:
    """nvcc puts a hash of a source's whole path into the names of what is of one file only, whatever its seed: two places would
    build different bytes. PTX keeps the name of a function's shared memory where the function itself is gone."""
    for path in files("kernels", "*.cu", "*.cuh"):
        text = without_comments(path)
        assert not re.search(r"namespace\s*\{", text), f"{named(path)}: use an inline namespace with a name"
        found = re.search(
            r"^static\b[^;{(]*__(device|global|constant)__|^__(device|global)__[^;{(]*\bstatic\b", text, re.MULTILINE
        )
        assert not found, f"{named(path)}: no static on the device ({found[0]}); inline says the same there"


def test_float_atomics_do_not_decide_an_order() -> None:
    """Same inputs, same bits: no atomicAdd on floats in a kernel."""
    for folder in versions():
        for path in files(f"kernels/{folder}"):
            assert "atomicAdd" not in without_comments(path), f"{named(path)} uses atomicAdd; sum in a fixed order instead"


def python_imports(path: Path) -> list[tuple[str, str]]:
    """(module, imported name) pairs, with relative imports made absolute."""
    found = []
    package = list(path.relative_to(ROOT / "python").parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            found += [(module, alias.name) for alias in node.names]
    return found


# The floors of the Python package, lowest first. A module or folder may import itself and what its line names; type-only imports
# and those inside functions count. There is no exception.
GROUND = {"_core", "errors", "interop", "ground"}
NETWORK = GROUND | {"network", "layers"}
TRAINING = NETWORK | {"losses", "metrics", "optim", "callbacks", "engine"}
MODEL = TRAINING | {"train", "inspection", "anysize", "distributed", "model"}
FLOORS: dict[str, set[str]] = {
    "errors": {"_core"},
    "interop": GROUND,
    "ground": GROUND,
    "network": GROUND | {"network"},
    "layers": NETWORK,
    "callbacks": GROUND,
    "losses": GROUND,
    "metrics": GROUND,
    "optim": GROUND | {"callbacks"},
    "engine": NETWORK | {"losses", "optim"},
    "distributed": NETWORK | {"losses", "optim", "engine"},
    "train": TRAINING,
    "inspection": TRAINING,
    "anysize": TRAINING | {"inspection"},
    "model": MODEL,
    "models": MODEL,
    "data": GROUND,
    "ops": GROUND,
    "kernel_tools": TRAINING | {"inspection"},
    "lab": GROUND | {"kernel_tools"},
    "features": GROUND,
    "recipes": MODEL | {"features", "models"},
    "runs": MODEL | {"models", "data"},
    "inference": MODEL | {"models", "data", "runs"},
    "classify": MODEL | {"inference", "runs"},
    "detect": MODEL | {"data", "runs", "inference"},
    "export": MODEL | {"models", "data", "detect"},
    "sklearn": MODEL | {"models", "inference", "detect"},
    "report": MODEL | {"models", "data", "runs", "inference"},
    "neighbours": MODEL | {"features", "inference"},
    "cli": MODEL
    | {"classify", "data", "detect", "export", "features", "inference", "kernel_tools", "lab"}
    | {"models", "neighbours", "recipes", "report", "runs"},
    "__main__": {"cli"},
}


def python_modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in files("python", "*.py"):
        parts = path.relative_to(ROOT / "python").with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def modules_imported(name: str, path: Path, modules: dict[str, Path]) -> set[str]:
    """The package's own modules that a module names, its parent packages left out."""
    found = set()
    for module, imported in python_imports(path):
        for target in (f"{module}.{imported}", module):
            if target in modules or target == "warploom._core":
                found.add(target)
                break
    return {target for target in found if target not in ("warploom", name) and not name.startswith(f"{target}.")}


def test_python_keeps_to_its_floors() -> None:
    modules = python_modules()
    parts = {name.split(".")[1] for name in modules if "." in name}
    assert parts == FLOORS.keys(), f"give each part of the package its line in FLOORS: {sorted(parts ^ FLOORS.keys())}"
    for name, path in modules.items():
        if name == "warploom":
            continue
        part = name.split(".")[1]
        for target in modules_imported(name, path, modules):
            other = target.split(".")[1]
            assert other == part or other in FLOORS[part], f"{named(path)} must not import {target}"


def test_python_modules_form_no_circle() -> None:
    modules = python_modules()
    waiting = {name: modules_imported(name, path, modules) & modules.keys() for name, path in modules.items()}
    while ready := [name for name, needs in waiting.items() if not needs & waiting.keys()]:
        for name in ready:
            del waiting[name]
    assert not waiting, f"these import each other in a circle, or lead into one: {sorted(waiting)}"


def test_python_imports_its_own_modules_at_the_top() -> None:
    """An import inside a function hides an arrow. Libraries that are slow to load or optional stand where they are used."""
    for path in files("python", "*.py"):
        tree = ast.parse(path.read_text())
        for outer in ast.walk(tree):
            if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for node in ast.walk(outer):
                    own = isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "warploom")
                    assert not own, f"{named(path)} imports {node.module} inside {outer.name}()"  # type: ignore[attr-defined]


def test_python_reaches_the_devices_through_core_alone() -> None:
    """No ctypes, no dlopen, no other extension: everything below Python goes through warploom._core."""
    for path in files("python", "*.py"):
        for module, name in python_imports(path):
            assert module.split(".")[0] not in {"ctypes", "cffi", "torch", "cupy"} or "interop" in path.name, (
                f"{named(path)} imports {module}"
            )
            assert "_lib" not in {name, *module.split(".")}, f"{named(path)} reaches into _lib"


def test_importing_the_package_needs_no_optional_module() -> None:
    """matplotlib, typer and Pillow load when they are used: `import warploom` stays quick and works without a display."""
    heavy = {"matplotlib", "typer", "PIL", "torch", "sklearn", "pooch"}
    path = ROOT / "python/warploom/__init__.py"
    for node in ast.parse(path.read_text()).body:
        names = (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        for name in names:
            assert name.split(".")[0] not in heavy, f"{named(path)} imports {name} at once"


@pytest.mark.parametrize("folder", ["kernels", "csrc", "python", "tests", "benchmarks", "cmake"])
def test_long_files_say_why(folder: str) -> None:
    """Past 500 lines the header gives the reason: a line with the words "long because"."""
    for path in files(folder, *SOURCES, "*.py", "*.sh", "*.cmake"):
        lines = path.read_text().splitlines()
        if len(lines) > 500:
            header = "\n".join(lines[:15]).lower()
            assert "long because" in header, (
                f"{named(path)} has {len(lines)} lines; split it, or say 'long because …' in its header"
            )


@pytest.mark.parametrize("folder", versions())
def test_kernel_files_have_headers(folder: str) -> None:
    """Maths, layout, what a thread owns, what changed, preconditions: a few lines of comment before anything else."""
    for path in files(f"kernels/{folder}", "*.cu"):
        text = path.read_text()
        lines = 3 if "__global__" in text else 1
        first = text.splitlines()[:lines]
        assert all(line.startswith("//") for line in first), f"{named(path)} must begin with the five-line header"
