"""The kernel lab: the rewriter, the seeded suite (tests/lab), the report's forms and exit codes."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from warploom import lab
from warploom.lab import build, ptx
from warploom.lab.rewriter import rewrite
from warploom.lab.sarif import as_sarif
from warploom.lab.tokens import text_of, tokenize

sys.path.insert(0, str(Path(__file__).resolve().parent))
import suite

ROOT = Path(__file__).resolve().parents[2]
needs_compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")


def rewritten(source: str) -> str:
    return rewrite(source, Path("mine.cu")).text.removeprefix('#line 1 "mine.cu"\n')


# ---- The rewriter ----


@pytest.mark.parametrize("path", [*suite.BUGS, *suite.CORRECT], ids=lambda p: p.stem)
def test_tokens_are_the_source_and_lines_stay(path: Path) -> None:
    source = path.read_text()
    assert text_of(tokenize(source)) == source
    made = rewritten(source).rstrip("\n").split("\n")
    lines = source.rstrip("\n").split("\n")
    assert [n for n, line in enumerate(lines) if "// BUG:" in line] == [
        n for n, line in enumerate(made[: len(lines)]) if "// BUG:" in line
    ]
    for before, after in zip(lines, made, strict=False):
        if not re.search(r"<<<|__shared__|asm|NULL|__device__|__constant__|cuda|^\s*:|%|lane|[\"\\]", before):
            assert after.split("auto* ")[0].rstrip() == before.rstrip() or before.strip() in after


@pytest.mark.parametrize(
    ("launch", "configuration", "kernel", "arguments"),
    [
        ("k<<<1, 2>>>(x);", "1, 2", "k", "(x)"),
        ("k<<<dim3(1, 2), n >> 1, 4 * sizeof(float), s>>>(x, y);", "dim3(1, 2), n >> 1, 4 * sizeof(float), s", "k", "(x, y)"),
        ("ns::k<A, B<C, D>><<<1, 1>>>(x);", "1, 1", "ns::k<A, B<C, D>>", "(x)"),
        ("k<int, (3 > 2)><<<f(a, b), 1>>>();", "f(a, b), 1", "k<int, (3 > 2)>", "()"),
        ("table[i]<<<1, 1>>>(x);", "1, 1", "table[i]", "(x)"),
        ("this->k<<<1, 1>>>(x);", "1, 1", "this->k", "(x)"),
        ("(*k)<<<1, 1>>>(x);", "1, 1", "(*k)", "(x)"),
        ("k << <1, n >> 2 >> >(x);", "1, n >> 2 ", "k", "(x)"),
        ("k<<<1, 1>>>(NULL, 0);", "1, 1", "k", "(nullptr, 0)"),
    ],
)
def test_launches(launch: str, configuration: str, kernel: str, arguments: str) -> None:
    made = rewritten(f"void f() {{ {launch} }}")
    assert f"::wl_configured({configuration}).wl_kernel(WL_NAME({kernel})," in made
    assert f"{{ {kernel}(wl_a...); }})" in made
    assert made.split("})")[-1].strip().startswith(arguments)


def test_launches_and_shared_memory_inside_of_macros() -> None:
    made = rewritten("#define GO(k, ...) \\\n  k<<<1, 2>>>(__VA_ARGS__)\n#define TILE(T) __shared__ T tile[32]\nint after;\n")
    assert "wl_configured(1, 2)" in made
    assert "<<<" not in made
    assert "WL_SHARED_PLACE" in made
    assert "__shared__" not in made
    assert made.split("\n")[3] == "int after;"


def test_what_is_in_strings_and_comments_stays() -> None:
    source = '// a<<<1, 2>>>(b) __shared__\n/* asm("x") */ const char* s = "k<<<1,1>>>()";\nauto r = R"(__shared__ <<<)";\n'
    assert rewritten(source).strip() == source.strip()


def test_shared_declarations() -> None:
    made = rewritten("__global__ void k() { __shared__ alignas(16) float a[4][5], *b; extern __shared__ char raw[]; }")
    assert "auto& a = WL_SHARED_PLACE(" in made
    assert "auto& b = WL_SHARED_PLACE(" in made
    assert "auto& raw = WL_DYNAMIC_PLACE(" in made
    assert "aligned(16)" in made.replace(" ", "")


def test_variables_are_told_from_functions() -> None:
    made = rewritten(
        "__device__ int x;\n__device__ float f(int);\n__constant__ float w[3];\n"
        "__device__ const int c = 1;\n__device__ T operator=(T);\n"
    )
    assert made.count("WL_DEVICE_VARIABLE") == 1
    assert made.count("WL_CONSTANT_VARIABLE") == 1


def test_ptx_that_is_not_modelled_is_refused_by_name_and_line() -> None:
    source = '__global__ void k() {\n  int x;\n  asm volatile("tcgen05.relinquish_alloc_permit.sync;\\n" ::: "memory");\n}\n'
    with pytest.raises(lab.Refusal, match=r"mine\.cu:3: inline PTX `tcgen05\.relinquish_alloc_permit\.sync` is not modelled"):
        rewrite(source, Path("mine.cu"))


def test_ptx_becomes_calls() -> None:
    assert "async_wait(0)" in ptx.translate("cp.async.wait_group 0;", [], {})
    made = ptx.translate("{ .reg .pred p; setp.ne.b32 p, %1, 0; @p mov.u32 %0, 7; }", ["out", "in"], {})
    assert "if (wl_r_p)" in made
    assert "put((out), 7)" in made
    with pytest.raises(LookupError, match=r"frobnicate\.u32 %0"):
        ptx.translate("frobnicate.u32 %0;", ["x"], {})


def test_libraries_are_refused() -> None:
    with pytest.raises(lab.Refusal, match=r"mine\.cu:2: thrust/sort\.h belongs to a library"):
        rewrite("int x;\n#include <thrust/sort.h>\n", Path("mine.cu"))


# ---- The seeded suite ----


@needs_compiler
def test_every_seeded_bug_is_found_and_no_correct_program_alarms() -> None:
    assert len(suite.BUGS) >= 60
    assert len(suite.CORRECT) >= 40
    assert all(suite.marks(p) for p in suite.BUGS)
    assert not any(suite.marks(p) for p in suite.CORRECT)
    score = suite.score(suite.examine_all([*suite.BUGS, *suite.CORRECT]))
    print(score)
    assert not score, score


# ---- Reports ----

RACE = suite.HERE / "bugs/shared_race_transpose.cu"


@needs_compiler
def test_a_race_names_both_places_threads_and_what_to_do() -> None:
    report = lab.check(RACE)
    [race] = report.errors
    assert race.code == "shared-race"
    assert race.other is not None
    assert len(race.thread) == 3
    assert {race.place.line, race.other.line} == {4, 5}
    assert race.place.column > 0
    text = lab.as_text(report)
    assert f"{RACE}:{race.place.line}:" in text
    assert "note: the other access" in text
    assert "__syncthreads()" in text
    assert report.accesses == 1024
    assert report.kernels == ["transpose"]
    assert "1,024 memory accesses checked" in text
    sarif = as_sarif([report], "1")
    [result] = sarif["runs"][0]["results"]
    assert result["ruleId"] == "shared-race"
    assert len(result["relatedLocations"]) == 1
    assert result["locations"][0]["physicalLocation"]["region"]["startLine"] == race.place.line


@needs_compiler
def test_schedules_are_reproducible_and_merged() -> None:
    first, again = lab.check(RACE, seed=3), lab.check(RACE, seed=3)
    assert [(f.place, f.thread, f.message) for f in first.findings] == [(f.place, f.thread, f.message) for f in again.findings]
    merged = lab.check(RACE, seed=3, schedules=3)
    assert merged.schedules == 3
    assert len(merged.errors) == 1
    assert merged.errors[0].seeds == (3, 4, 5)


@needs_compiler
def test_a_sample_of_blocks_says_that_it_is_partial() -> None:
    report = lab.check(suite.HERE / "correct/reduction_last_block.cu", blocks=2)
    assert not report.complete
    assert report.blocks_run < report.blocks
    assert "partial" in lab.as_text(report)


@needs_compiler
@pytest.mark.parametrize(
    ("kernel", "level"),
    [
        ("__shared__ int s; s = 7; __syncthreads(); out[threadIdx.x] = s;", "warning"),
        ("__shared__ int s; s = 7 + (threadIdx.x == 40); __syncthreads(); out[threadIdx.x] = s;", "error"),
        ("__shared__ short s[2]; s[1] = 7; __syncthreads(); out[threadIdx.x] = s[1];", "warning"),
        ("out[0] = 3;", "warning"),
        ("out[0] = 3 + (threadIdx.x == 40);", "error"),
        ("__shared__ int s; if (threadIdx.x < 32) s = 7; out[threadIdx.x] = s;", "error"),
    ],
)
def test_writes_of_the_same_value_are_warnings(kernel: str, level: str, tmp_path: Path) -> None:
    file = tmp_path / "same.cu"
    file.write_text(
        f"__global__ void k(int* out) {{ {kernel} }}\n"
        "int main() { int* p; cudaMalloc(&p, 256); k<<<1, 64>>>(p); cudaDeviceSynchronize(); cudaFree(p); }\n"
    )
    found = [f for f in lab.check(file).findings if f.code.endswith("-race")]
    assert {f.level for f in found} == {level}
    assert level == "error" or all("the value that the other one wrote too" in f.message for f in found)


@needs_compiler
def test_too_long_a_program_has_a_partial_verdict(tmp_path: Path) -> None:
    file = tmp_path / "long.cu"
    file.write_text(
        "__global__ void k(int* out) { out[0] = blockIdx.x; }\n"
        "int main() { int* p; cudaMalloc(&p, 256); k<<<8, 1>>>(p); volatile int wait = 1; while (wait) {} }\n"
    )
    report = lab.check(file, timeout=2)
    assert not report.complete
    assert {f.code for f in report.errors} == {"block-race"}
    assert {f.code for f in report.findings} == {"block-race", "timeout"}
    assert report.kernels == ["k"]


@needs_compiler
def test_the_time_of_a_kernel_is_that_of_all_its_launches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARPLOOM_LAB_SECONDS", "0.2")
    file = tmp_path / "many.cu"
    file.write_text(
        "__global__ void k(float* x) { for (int i = 0; i < 2000; ++i) x[blockIdx.x * 64 + threadIdx.x] += 1; }\n"
        "int main() { float* p; cudaMalloc(&p, 4096 * 256); cudaMemset(p, 0, 4096 * 256);\n"
        "  for (int i = 0; i < 10; ++i) k<<<4096, 64>>>(p);\n  cudaDeviceSynchronize(); cudaFree(p); }\n"
    )
    report = lab.check(file)
    assert report.launches == 10
    assert not report.complete
    assert not report.findings
    assert 10 * 15 <= report.blocks_run < 10 * 4096
    assert report.seconds < 20


@needs_compiler
def test_the_program_gets_its_arguments_and_compiled_programs_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "arguments.cu"
    file.write_text('#include <cstring>\nint main(int n, char** a) { return n == 2 && strcmp(a[1], "yes") == 0 ? 0 : 3; }\n')
    assert lab.check(file, ["yes"]).exit_code == 0
    assert lab.check(file, ["no"]).exit_code == 3
    assert build.program(file).executable == build.program(file).executable


@needs_compiler
def test_what_does_not_compile_is_refused_at_its_line(tmp_path: Path) -> None:
    file = tmp_path / "wrong.cu"
    file.write_text("__global__ void k() {\n  nothing_like_this();\n}\nint main() {}\n")
    with pytest.raises(lab.Refusal, match=r"wrong\.cu:2: does not compile: .*nothing_like_this"):
        lab.check(file)
    with pytest.raises(lab.Refusal, match="cannot be read"):
        lab.check(tmp_path / "missing.cu")
    file.write_text("void elsewhere(int);\nint main() {\n  elsewhere(1);\n}\n")
    with pytest.raises(lab.Refusal, match=r"wrong\.cu:3: elsewhere\(int\) is defined nowhere"):
        lab.check(file)
    (tmp_path / "own.cuh").write_text("void elsewhere();\n\ninline void f() { elsewhere(); }\n")
    file.write_text('#include "own.cuh"\nint main() { f(); }\n')
    with pytest.raises(lab.Refusal, match=r"own\.cuh:3: elsewhere\(\) is defined nowhere"):
        lab.check(file)
    file.write_text("__global__ void k() {}\n")
    with pytest.raises(lab.Refusal, match=r"has no main\(\)"):
        lab.check(file)


@needs_compiler
def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from warploom.cli import main

    assert main(["check", str(RACE), "--json", "--sarif", str(tmp_path / "out.sarif")]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["findings"][0]["code"] == "shared-race"
    assert data["findings"][0]["help"]
    assert json.loads((tmp_path / "out.sarif").read_text())["version"] == "2.1.0"
    assert main(["check", str(RACE), "--github"]) == 1
    assert re.search(
        r"^::error file=.*shared_race_transpose\.cu,line=\d,col=\d+,title=warploom shared-race::",
        capsys.readouterr().out,
        re.MULTILINE,
    )
    assert main(["check", str(suite.HERE / "correct/saxpy.cu")]) == 0
    assert "no errors; 1 kernel in 1 launch" in capsys.readouterr().out
    assert main(["check", str(suite.HERE / "bugs/host_leak.cu")]) == 0
    assert main(["check", str(suite.HERE / "bugs/host_leak.cu"), "--strict"]) == 1
    assert main(["check", str(tmp_path / "missing.cu")]) == 2
