"""Single kernels: cubins are read, named and found; argument buffers are packed as the machine code wants them.

A real cubin is compiled where there is an nvcc; the rest needs none.
"""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

import numpy as np
import pytest
import warploom as wl
from conftest import usable_gpus
from warploom.kernel_tools import cubin, kernels

ROOT = Path(__file__).resolve().parents[2]
SOURCE = """
namespace mine {
template <int kTile>
struct Tile {};
struct Shape { int n; long long stride; char c; };
template <class T, bool kFlag>
__global__ void __launch_bounds__(96) scale_kernel(Shape s, float factor, const float* x, double* y) {
  __shared__ float kept[64];
  kept[threadIdx.x % 64] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = factor * kept[(threadIdx.x + 1) % 64] + s.stride;
}
__global__ void plain_kernel(int n, char* p) { p[n] = 1; }
template __global__ void scale_kernel<Tile<4>, true>(Shape, float, const float*, double*);
template __global__ void scale_kernel<Tile<8>, false>(Shape, float, const float*, double*);
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        kernels.find_tool("nvcc")
    except wl.StateError as e:
        pytest.skip(str(e))
    root = tmp_path_factory.mktemp("cubins")
    source = root / "scale.cu"
    source.write_text(SOURCE)
    for arch in ("75", "90a"):
        kernels.compile(source, arch, root / "v9_mine")
    return root


def test_kernels_are_listed_with_their_resources(folder: Path) -> None:
    found = {(k.name, k.arch): k for k in kernels.listing(folder=folder)}
    names = {"scale_kernel<Tile<4>, true>", "scale_kernel<Tile<8>, false>", "plain_kernel"}
    assert set(found) == {(name, arch) for name in names for arch in ("75", "90a")}
    for arch in ("75", "90a"):
        k = found["scale_kernel<Tile<4>, true>", arch]
        assert (k.version, k.source, k.max_threads, k.shared_bytes, k.stack_bytes) == (
            "v9",
            "kernels/v9_mine/scale.cu",
            96,
            256,
            0,
        )
        assert 4 <= k.registers <= 64
        assert [p.size for p in k.parameters] == [24, 4, 8, 8]
        assert "mine::Tile<4>" in k.signature
        assert 0 < k.occupancy() <= 1
        assert found["plain_kernel", arch].max_threads == 0
    assert {k.arch for k in kernels.listing("75", folder=folder)} == {"75"}
    assert not kernels.listing(version="v1", folder=folder)


def test_kernels_are_found_by_name(folder: Path) -> None:
    assert kernels.find("plain_kernel", folder=folder, arch="75").arch == "75"
    assert kernels.find("scale_kernel<Tile<8>, false>", folder=folder, arch="90a").arch == "90a"
    assert kernels.find("Tile<8>", folder=folder, arch="75").name == "scale_kernel<Tile<8>, false>"
    for name, words in (("scale_kernel", "names 2 kernels"), ("nothing", "there are plain_kernel, scale_kernel")):
        with pytest.raises(wl.ArgumentError, match=words):
            kernels.find(name, folder=folder, arch="75")
    with pytest.raises(wl.ArgumentError, match="was not built for sm_80"):
        kernels.find("plain_kernel", folder=folder, arch="80")
    if not usable_gpus():
        assert kernels.find("plain_kernel", folder=folder).arch == "90a"


def test_arguments_lie_where_the_kernel_reads_them(folder: Path) -> None:
    k = kernels.find("Tile<4>", folder=folder, arch="75")

    class Shape(ctypes.Structure):
        _fields_ = (("n", ctypes.c_int), ("stride", ctypes.c_longlong), ("c", ctypes.c_char))

    packed = k.pack(Shape(7, 1 << 40, b"z"), 0.5, 0x7F0012345678, None)
    assert len(packed) == k.parameter_bytes == 48
    assert struct.unpack_from("<i4xqc", packed) == (7, 1 << 40, b"z")
    assert struct.unpack_from("<f4xQQ", packed, 24) == (0.5, 0x7F0012345678, 0)
    assert k.pack(bytes(24), np.float32(0.5), np.uint64(3), 0)[24:28] == packed[24:28]
    for arguments, words in (
        ((bytes(24), 0.5, 1), "takes 4 arguments, not 3"),
        ((bytes(20), 0.5, 1, 2), "has 20 bytes, not 24"),
        ((3, 0.5, 1, 2), "struct of 24 bytes"),
        ((bytes(24), np.float64(0.5), 1, 2), "has 8 bytes, not 4"),
        ((bytes(24), 0.5, "x", 2), "not str"),
        ((bytes(24), 0.5, 1 << 80, 2), "does not fit"),
    ):
        with pytest.raises(wl.ArgumentError, match=words):
            k.pack(*arguments)
    with pytest.raises(wl.DeviceError, match="lies on cpu"):
        k.pack(bytes(24), 0.5, wl.asarray(np.zeros(3, np.float32)), 0)


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(wl.StateError, match="-DWARPLOOM_CUBINS=ON"):
        kernels.listing(folder=tmp_path / "nothing")
    (tmp_path / "broken.sm_90.cubin").write_bytes(b"\x7fELF\x02" + bytes(70))
    with pytest.raises(wl.ArgumentError, match=r"broken\.sm_90\.cubin: these 75 bytes are no whole cubin"):
        kernels.listing(folder=tmp_path)
    with pytest.raises(cubin.CubinError, match="nvcc -cubin"):
        cubin.entries(b"not a cubin")
    with pytest.raises(wl.ArgumentError, match=r"none\.cu does not exist"):
        kernels.compile(tmp_path / "none.cu", "90a", tmp_path)
    with pytest.raises(wl.ArgumentError, match="no limits are known for sm_52"):
        kernels.occupancy("52", 256, 32, 0)


def test_occupancy_follows_the_scarcest_resource() -> None:
    assert kernels.occupancy("90a", 256, 32, 0) == 1.0
    assert kernels.occupancy("90a", 256, 64, 0) == 0.5  # registers
    assert kernels.occupancy("80", 128, 32, 40 << 10) == 4 * 128 / 2048  # shared memory, of which each block loses 1 KiB
    assert kernels.occupancy("75", 32, 16, 0) == 16 * 32 / 1024  # blocks


@pytest.mark.skipif(bool(usable_gpus()), reason="says what a machine without a GPU says")
def test_loading_says_what_it_needs(folder: Path) -> None:
    with pytest.raises((wl.StateError, wl.DeviceError), match=r"needs PyCUDA|needs a usable NVIDIA GPU"):
        kernels.find("plain_kernel", folder=folder, arch="75").load()


def test_short_names() -> None:
    text = "void warploom::v2::(anonymous namespace)::k<warploom::v2::Tile<(int)4, (int)8>, (warploom::Layout)0>(int, float*)"
    assert kernels.short_name(text) == "k<Tile<4, 8>, 0>"
    assert cubin.demangle("_Z3addPKfPf") == "add(float const*, float*)"
    assert cubin.demangle("plain") == "plain"


def test_the_command_lists_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    from warploom.cli import main

    assert main(["kernels", "--folder", str(folder), "--arch", "75"]) == 0
    text = capsys.readouterr().out
    assert "3 kernels" in text
    assert "scale_kernel<Tile<4>, true>" in text
    assert main(["kernels", "plain", "--folder", str(folder), "--json"]) == 0
    assert {row["arch"] for row in json.loads(capsys.readouterr().out)} == {"75", "90a"}
    assert main(["kernels", "absent", "--folder", str(folder)]) == 2
    assert "no kernel matches" in capsys.readouterr().err


def test_tuning_compiles_and_packs_without_a_gpu(folder: Path) -> None:
    import subprocess
    import sys

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "benchmarks/tune_kernel.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    small = run("conv2d", "--dry-run", "--case", "conv_1x4x33x31_to3_k3x3_s1_p1", "--arch", "75", "--blocks", "64", "256")
    assert small.returncode == 0, small.stderr
    assert small.stdout.count("nothing was launched") == 2
    if not usable_gpus():
        refused = run("conv2d", "--case", "conv_1x4x33x31_to3_k3x3_s1_p1")
        assert refused.returncode == 2
        assert refused.stderr.startswith("tune_kernel: timing needs an NVIDIA GPU and PyCUDA")
        assert refused.stderr.count("\n") == 1
