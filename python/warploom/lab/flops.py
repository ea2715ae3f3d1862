"""Arithmetic of a counted program: which basic blocks ran, and what floating-point instructions are in them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

_ARITHMETIC = re.compile(r"v?(add|sub|mul|div|sqrt|fn?m(?:add|sub)(?:132|213|231)?)(ss|sd|ps|pd)$")
_ARM = re.compile(r"(fadd|fsub|fmul|fnmul|fdiv|fsqrt|fn?madd|fn?msub|fmla|fmls)$")
_MATRIX = {"m16n8k16_bf16": 4096, "m16n8k16_f16": 4096, "m16n8k8_f16": 2048, "m16n8k8_tf32": 2048}


def _of_instruction(name: str, operands: str) -> int:
    """Operations of one instruction, of one thread: a multiply-add is two."""
    if m := _ARITHMETIC.match(name):
        width = 1
        if m.group(2)[0] == "p":
            width = (8 if "%ymm" in operands else 4) // (2 if m.group(2) == "pd" else 1)
        return width * (2 if m.group(1).startswith("fm") or m.group(1).startswith("fnm") else 1)
    if _ARM.match(name):
        lanes = re.search(r"\.(\d+)[sd]\b", operands)
        return (int(lanes.group(1)) if lanes else 1) * (2 if re.match(r"fn?m(add|sub|l)", name) else 1)
    return 0


def by_block(executable: Path, starts: list[int]) -> dict[int, int]:
    """Operations of each basic block, by the address behind the call that counts it; empty where objdump is missing."""
    if not starts:
        return {}
    command = ["objdump", "-d", "--no-show-raw-insn", f"--start-address={min(starts)}", f"--stop-address={max(starts) + 65536}"]
    try:
        text = subprocess.run([*command, str(executable)], capture_output=True, text=True, check=False, timeout=120).stdout
    except OSError:
        return {}
    wanted, found, now, counting = set(starts), dict.fromkeys(starts, 0), 0, False
    for m in re.finditer(r"^\s*([0-9a-f]+):\t(\S+)[ \t]*(.*)$", text, re.MULTILINE):
        address = int(m.group(1), 16)
        if address in wanted:
            now, counting = address, True
        if counting:
            if "__sanitizer_cov_trace_pc" in m.group(3) or re.match(r"(ret|jmp|b|hlt|ud2)q?$", m.group(2)):
                counting = False  # the next block, or the end of this one
            else:
                found[now] += _of_instruction(m.group(2), m.group(3))
    return found


def of_kernel(row: dict[str, object], blocks: dict[int, int]) -> tuple[float, float]:
    """(scalar, tensor core) operations of the counted blocks of a kernel; `row` as the runtime reports it."""
    code, matrices = row["code"], row["matrix_multiplies"]
    assert isinstance(code, list)
    assert isinstance(matrices, dict)
    scalar = float(sum(lanes * blocks.get(start, 0) for start, lanes in code))
    tensor = sum(_MATRIX.get(name, 0) * count for name, count in matrices.items())
    warpgroup = row.get("warpgroup_flops", 0)
    assert isinstance(warpgroup, int)
    return scalar, float(tensor + warpgroup)
