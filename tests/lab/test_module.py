"""Kernels of a CUDA file called from Python, check() as an assertion, and the cell magic."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from warploom import lab
from warploom.kernel_tools import kernels as compiled
from warploom.lab import magic
from warploom.lab.module import find_compiled

pytestmark = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")

SOURCE = """
#include <cstdio>
__global__ void saxpy(float a, const float* x, float* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = a * x[i] + y[i];
}
template <class T, int kFactor> __global__ void scale(T* x) { x[threadIdx.x] *= kFactor; }
struct Pair { int a; float b; };
extern "C" __global__ void __launch_bounds__(64) mixed(Pair p, double d, long long l, bool flag, unsigned char c,
                                                         const void* nothing, double* out) {
  extern __shared__ double s[];
  s[threadIdx.x] = p.a + p.b + d + l + flag + c + (nothing == nullptr);
  __syncthreads();
  out[threadIdx.x] = s[blockDim.x - 1 - threadIdx.x];
}
__global__ void racy(int* x) { x[0] = blockIdx.x; }
__global__ void far(float* x) { x[threadIdx.x + 1] = 1; }
int main() { puts("the file's own main"); return 3; }
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> lab.Module:
    path = tmp_path_factory.mktemp("module") / "mine.cu"
    path.write_text(SOURCE)
    return wl.lab.load(path)


def test_arrays_go_in_and_come_back(module: lab.Module) -> None:
    assert module.names == ["saxpy", "scale", "mixed", "racy", "far"]
    k = module.kernel("saxpy")
    assert k.kinds == ("f4", "*cf4", "*f4", "i4")
    x, y = np.arange(1000, dtype=np.float32), np.ones(1000, np.float32)
    report = k[4, 256](2, x, y, x.size)
    np.testing.assert_array_equal(y, 2 * x + 1)
    np.testing.assert_array_equal(x, np.arange(1000))
    assert report is not None
    assert report.accesses >= 3000  # and the parameters
    assert report.kernels == ["saxpy"]


def test_templates_structs_shared_memory_and_null(module: lab.Module) -> None:
    x = np.arange(32, dtype=np.int64)
    module.kernel("scale<long, 3>")[1, 32](x)
    np.testing.assert_array_equal(x, 3 * np.arange(32))
    k = module.kernel("mixed")
    assert k.kinds == ("V8", "f8", "i8", "b1", "u1", "*cV1", "*f8")
    out = np.zeros(64)
    pair = np.array([(5, 0.5)], [("a", "<i4"), ("b", "<f4")])
    k[1, 64, 64 * 8](pair, 0.25, 2**40, True, 7, None, out)
    np.testing.assert_array_equal(out, 5 + 0.5 + 0.25 + 2.0**40 + 1 + 7 + 1)


def test_mistakes_are_exceptions_and_leave_the_arrays(module: lab.Module) -> None:
    x = np.full(4, 9, np.int32)
    with pytest.raises(wl.KernelFault, match=r"race between blocks on argument 0(.|\n)*mine\.cu:\d+") as found:
        module.kernel("racy")[8, 1](x)
    assert "help:" in str(found.value)
    np.testing.assert_array_equal(x, 9)
    y = np.zeros(32, np.float32)
    with pytest.raises(wl.KernelFault, match=r"out of bounds: 0 bytes past the end of argument 0"):
        module.kernel("far")[1, 32](y)
    with pytest.raises(wl.KernelFault, match="a block of"):
        module.kernel("far")[1, 2048](y)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda k, x, y: k[1, 2](2.0, x, y), wl.ArgumentError, r"takes 4 arguments \(f4, \*cf4, \*f4, i4\), not 3"),
        (lambda k, x, y: k[1, 2](2.0, x, y.astype(np.float64), 2), wl.DTypeError, "array of float64; the kernel takes float32"),
        (lambda k, x, y: k[1, 2](2.0, x, y[::2], 2), wl.ArgumentError, "not contiguous"),
        (lambda k, x, y: k[1, 2](2.0, x, [1.0], 2), wl.DTypeError, "is list; the kernel takes a NumPy array"),
        (lambda k, x, y: k[1, 2](2.0, x, y, 2.5), wl.DTypeError, r"argument 3 of saxpy is 2\.5"),
        (lambda k, x, y: k[1, 2](2.0, x, y, 2**40), wl.DTypeError, "argument 3"),
        (lambda k, x, y: k[1, 2](x, x, y, 2), wl.DTypeError, "is an array"),
        (lambda k, x, y: k[1](2.0, x, y, 2), wl.ArgumentError, r"expected saxpy\[grid, block\]"),
        (lambda k, x, y: k[1.5, 2](2.0, x, y, 2), wl.ArgumentError, r"the grid is 1\.5"),
        (lambda k, x, y: k.module.kernel("nosuch"), wl.ArgumentError, "has no kernel 'nosuch'; it has saxpy"),
        (lambda k, x, y: k.module.kernel("scale"), wl.ArgumentError, "is a template"),
    ],
)
def test_wrong_calls_are_told(module: lab.Module, call: Any, error: type[Exception], words: str) -> None:
    x, y = np.ones(4, np.float32), np.ones(4, np.float32)
    with pytest.raises(error, match=words):
        call(module.kernel("saxpy"), x, y)
    np.testing.assert_array_equal(y, 1)


def test_read_only_arrays_are_refused_where_the_kernel_writes(module: lab.Module) -> None:
    x, y = np.ones(4, np.float32), np.ones(4, np.float32)
    x.flags.writeable = y.flags.writeable = False
    with pytest.raises(wl.ArgumentError, match="cannot be written"):
        module.kernel("saxpy")[1, 4](2.0, x, y, 4)


def test_on_a_gpu_nvcc_compiles_the_same_file(module: lab.Module, tmp_path: Path) -> None:
    gpu = wl.lab.load(module.path, device="cuda")
    assert gpu.kernel("saxpy").name == "saxpy"
    with pytest.raises(wl.ArgumentError, match="device 'tpu'"):
        wl.lab.load(module.path, device="tpu")
    try:
        compiled.find_tool("nvcc")
    except wl.StateError as e:
        pytest.skip(str(e))
    source = tmp_path / "instance.cu"
    source.write_text(SOURCE + "template __global__ void scale<float, 4>(float*);\n")
    found = compiled.compile(source, "90a", tmp_path)
    assert find_compiled(found, "scale<float, 4>", source).registers > 0
    saxpy = find_compiled(found, "saxpy", source)
    assert saxpy.pack(2.0, None, None, 5)[-4:] == (5).to_bytes(4, "little")
    with pytest.raises(wl.ArgumentError, match="nvcc made no kernel scale<int, 4>"):
        find_compiled(found, "scale<int, 4>", source)


def test_check_is_an_assertion(tmp_path: Path) -> None:
    path = tmp_path / "race.cu"
    path.write_text(RACE)
    report = lab.check(path)
    assert not report
    assert "race between blocks" in repr(report)
    path.write_text("int main() {}\n")
    assert lab.check(path)


RACE = """__global__ void k(int* x) { x[0] = blockIdx.x; }
int main() { int* p; cudaMalloc(&p, 4); k<<<9, 1>>>(p); cudaFree(p); }
"""
STRIDED = """__global__ void k(int* x) { x[32 * threadIdx.x] = 1; }
int main() { int* p; cudaMalloc(&p, 4096); k<<<1, 32>>>(p); cudaFree(p); }
"""


class Shell:
    """What the magic needs of IPython."""

    def __init__(self) -> None:
        self.magics: dict[str, Any] = {}
        self.names: dict[str, Any] = {}

    def register_magic_function(self, function: Any, magic_kind: str, magic_name: str) -> None:
        assert magic_kind == "cell"
        self.magics[magic_name] = function

    def push(self, names: dict[str, Any]) -> None:
        self.names |= names


def test_the_cell_magic(capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell()
    magic.load_ipython_extension(shell)
    run = shell.magics["warploom"]
    run(
        "",
        RACE,
    )
    assert "cell:1:" in capsys.readouterr().out
    run("mine -DF=5", "__global__ void k(int* x) { x[threadIdx.x] = F; }\n")
    assert "mine: kernels k" in capsys.readouterr().out
    x = np.zeros(3, np.int32)
    shell.names["mine"].kernel("k")[1, 3](x)
    np.testing.assert_array_equal(x, 5)
    run("", "int main() { nonsense(); }\n")
    assert "cell:1: does not compile" in capsys.readouterr().out
    page = run(
        "profile",
        STRIDED,
    )
    assert page._repr_html_().startswith("<iframe srcdoc=")
    with pytest.raises(wl.ArgumentError, match="neither check nor profile"):
        run("2x", "int main() {}")


def test_the_cell_magic_in_ipython() -> None:
    shells = pytest.importorskip("IPython.core.interactiveshell")
    shell = shells.InteractiveShell()
    shell.run_line_magic("load_ext", "warploom.lab.magic")
    shell.run_cell_magic("warploom", "there", "__global__ void k(int* x) { x[threadIdx.x] = 2; }\n")
    x = np.zeros(3, np.int32)
    shell.user_ns["there"].kernel("k")[1, 3](x)
    np.testing.assert_array_equal(x, 2)
