"""Counts of a program, and their page: looked at in a browser where there is one."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from warploom.cli import main
from warploom.errors import ArgumentError
from warploom.lab.gpus import GPUS, gpu
from warploom.lab.html import page
from warploom.lab.profile import ProgramProfile, profile

pytestmark = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")

SOURCE = """__global__ void strided(const float* x, float* y) {
  __shared__ float tile[32][32];
  tile[threadIdx.x][0] = x[32 * threadIdx.x];
  __syncthreads();
  if (threadIdx.x % 2 == 0) y[threadIdx.x] = tile[threadIdx.x][0] * 2.0f + 1.0f;
}
int main() {
  float *x, *y;
  cudaMalloc(&x, 4096);
  cudaMalloc(&y, 128);
  cudaMemset(x, 0, 4096);
  strided<<<4, 32>>>(x, y);
  cudaFree(x);
  cudaFree(y);
}
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> ProgramProfile:
    path = tmp_path_factory.mktemp("profile") / "strided.cu"
    path.write_text(SOURCE)
    return profile(path, blocks=0)


def test_counts_that_follow_from_the_source(found: ProgramProfile) -> None:
    [counted] = found.counted
    kernel = counted.kernel
    assert (kernel.name, kernel.grid, kernel.block) == ("strided", (4, 1, 1), (32, 1, 1))
    lines = {(line.place.rpartition(":")[2], line.space, line.action): line for line in kernel.lines}
    load, store = lines["3", "global", "load"], lines["3", "shared", "store"]
    assert (load.traffic.requests, load.traffic.moved, load.traffic.ratio) == (4, 4 * 32, 8)
    assert (store.traffic.requests, store.traffic.moved) == (4, 4 * 32)
    assert lines["5", "global", "store"].traffic.active == 0.5
    assert counted.scalar_flops == 4 * 16 * 2
    assert load.request is not None
    assert load.request["lanes"] == [128 * lane for lane in range(32)]
    assert load.request["buffer"] == "`x` (allocated at line 9)"
    assert counted.shared_bytes == 4096
    assert kernel.divergent_branches == 4
    for arch in ("75", "90"):
        assert 0 < counted.occupancy(arch) <= 1


def test_gpus_are_known_by_name() -> None:
    assert gpu("rtx 4090").arch == "89"
    with pytest.raises(ArgumentError, match="no GPU named 'Voodoo' is known; known: T4"):
        gpu("Voodoo")


def test_the_command(found: ProgramProfile, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--html", str(tmp_path / "p.html"), "--json", str(tmp_path / "p.json")]
    assert main(["profile", str(found.path), *files, "--gpu", "a100"]) == 0
    said = capsys.readouterr().out
    assert "strided.cu:3" in said
    assert "conflict" in said
    assert json.loads((tmp_path / "p.json").read_text())["kernels"][0]["coalescing"] > 4
    assert "on A100" in (tmp_path / "p.html").read_text()
    assert main(["profile", "--html", "x.html"]) == 2
    assert main(["profile", str(tmp_path / "missing.cu")]) == 2


def test_the_page_needs_nothing_else_and_a_browser_draws_it(found: ProgramProfile, tmp_path: Path) -> None:
    text = page(found, GPUS["H100"])
    assert not re.search(r"(src|href)=|@import|url\(|<script", text)
    browser = next((b for b in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if b), None)
    if browser is None:
        pytest.skip("no Chromium (apt install chromium)")
    # Opened, and with the sizes that a browser gives to what is drawn.
    (tmp_path / "page.html").write_text(text.replace("<details>", "<details open>"))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1300,2400"]
    url = (tmp_path / "page.html").as_uri()
    picture = tmp_path / "page.png"
    done = subprocess.run([*command, f"--screenshot={picture}", url], capture_output=True, timeout=180, check=False)
    assert picture.is_file(), done.stderr[-500:]
    assert struct.unpack(">II", picture.read_bytes()[16:24]) == (1300, 2400)
    assert picture.stat().st_size > 60_000, "an empty page"
    tree = subprocess.run([*command, "--dump-dom", url], capture_output=True, text=True, timeout=180, check=False).stdout
    assert tree.count("<svg") == text.count("<svg") >= 4
    assert tree.count("<details") == text.count("<details")
