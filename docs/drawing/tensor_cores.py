"""The drawings of the tensor core rungs, v5 and v7: fragments, exchanged chunks of shared memory, the halo, the ring of stages.

Places in shared memory are computed by the kernels' own formulas, and the drawing fails where they would conflict.
"""

from __future__ import annotations

from collections.abc import Callable

from drawing.svg import (
    BLUE,
    CARD,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SOFT,
    STRONG_BLUE,
    STRONG_GREEN,
    STRONG_ORANGE,
    STRONG_PURPLE,
    STRONG_RED,
    YELLOW,
    Drawing,
)

FOUR = (BLUE, ORANGE, GREEN, PURPLE)
EIGHT = (BLUE, ORANGE, GREEN, PURPLE, YELLOW, RED, GREY, "#bfe3e0")


def fragments() -> Drawing:
    """mma.m16n8k16 with 16-bit operands: PTX ISA, "Matrix fragments for mma.m16n8k16"; kernels/emulator/tensor_cores.cpp."""
    d = Drawing(
        "v5: who holds what of mma.m16n8k16",
        "Cells carry the number of the lane that holds them; the cells of lane 5 are marked with the register they stand in.",
        900,
        882,
    )
    d.text(20, 30, "mma.sync m16n8k16 (bf16, fp16): which lane holds which element", 16, bold=True)
    mine, cell = 5, 24

    def draw(x: int, y: int, columns: int, rows: int, holder: Callable[[int, int], tuple[int, str]]) -> None:
        for row in range(rows):
            for column in range(columns):
                lane, register = holder(row, column)
                d.rect(x + cell * column, y + cell * row, cell, cell, STRONG_BLUE if lane == mine else FOUR[lane % 4], CARD)
                text, fill = (register, "#ffffff") if lane == mine else (str(lane), "#1c2330")
                d.text(x + cell * (column + 0.5), y + cell * row + 16, text, 11, "middle", lane == mine, fill)
        d.rect(x, y, cell * columns, cell * rows)

    # With g = lane / 4 and t = lane % 4; a register holds two neighbouring elements of k.
    def a(row: int, k: int) -> tuple[int, str]:
        return row % 8 * 4 + k % 8 // 2, f"a{row // 8 + 2 * (k // 8)}"

    def b(k: int, n: int) -> tuple[int, str]:
        return n * 4 + k % 8 // 2, f"b{k // 8}"

    def c(row: int, n: int) -> tuple[int, str]:
        return row % 8 * 4 + n // 2, f"c{row // 8 * 2 + n % 2}"

    d.text(30, 472, "A: 16 rows (pixels) × 16 of k", 13, bold=True)
    draw(30, 482, 16, 16, a)
    d.text(440, 54, "B: 16 of k × 8 columns (channels)", 13, bold=True)
    draw(440, 54 + 10, 8, 16, b)
    d.text(440, 472, "C: 16 × 8 sums in float32", 13, bold=True)
    draw(440, 482, 8, 16, c)
    d.text(30, 90, "C += A · B, by the 32 lanes of a warp together.", 13)
    d.text(30, 112, "With g = lane / 4 and t = lane % 4:", 13)
    d.text(46, 138, "a0: row g, k = 2t and 2t + 1", 13)
    d.text(46, 158, "a1: row g + 8, the same k", 13)
    d.text(46, 178, "a2, a3: the same rows, k + 8", 13)
    d.text(46, 204, "b0: k = 2t and 2t + 1, column g", 13)
    d.text(46, 224, "b1: the same column, k + 8", 13)
    d.text(46, 250, "c0, c1: row g, columns 2t and 2t + 1", 13)
    d.text(46, 270, "c2, c3: row g + 8", 13)
    d.text(30, 304, "A 32-bit register of A or B holds two elements.", 13)
    d.text(30, 326, "tf32 has 8 of k instead of 16: the same 32 bytes.", 13)
    d.rect(30, 352, 16, 16, STRONG_BLUE)
    d.text(54, 365, "lane 5 (g = 1, t = 1): its registers by name", 13)
    for i in range(4):
        d.rect(30 + 22 * i, 380, 16, 16, FOUR[i])
    d.text(124, 393, "t = 0, 1, 2, 3", 13)
    d.text(660, 80, "a warp of the 128 × 128 tile", 13, bold=True)
    d.lines(660, 102, ["owns 64 × 32 sums:", "4 × 4 fragments of C, 64 floats", "a lane"], 13)
    d.text(660, 176, "per 32 bytes of k it loads", 13, bold=True)
    d.lines(660, 198, ["4 fragments of A", "(4 × ldmatrix.x4)", "4 fragments of B, two by two", "(2 × ldmatrix.x4)"], 13)
    d.lines(660, 284, ["and multiplies 16 times."], 13)
    d.text(660, 330, "a block steps by 64 bytes:", 13, bold=True)
    d.lines(660, 352, ["32 elements of 16 bits", "or 16 of tf32"], 13)
    d.lines(660, 486, ["Two lanes side by side hold", "neighbouring columns: the", "epilogue stores pairs."], 13)
    d.lines(
        660,
        560,
        ["Pooled: the four pixels of a", "window are neighbouring rows,", "so the maximum is found by", "one shuffle per sum."],
        13,
    )
    return d


def v5_place(row: int, chunk: int) -> int:
    """OperandTile::chunk_at of A along k: rows of 64 bytes, four chunks; kernels/v5_tensor_cores/tensor_tile.cuh."""
    return row * 4 + (chunk ^ (row // 2 & 3))


def v7_place(row: int, chunk: int) -> int:
    """The 128-byte swizzle: rows of eight chunks; kernels/v7_hopper/halo.cuh and kernels/v5_tensor_cores/errands.cu."""
    return row * 8 + (chunk ^ (row & 7))


def groups(place: Callable[[int, int], int], chunk: int, rows: range) -> list[int]:
    """Which of the eight groups of four banks each row's chunk falls into."""
    return [place(row, chunk) % 8 for row in rows]


def memory(
    d: Drawing, x: float, y: float, rows: int, chunks: int, place: Callable[[int, int], int], marked: int, cell: float
) -> None:
    """Shared memory as lines of 128 bytes; the chunk `marked` of the first eight rows stands out."""
    for row in range(rows):
        for chunk in range(chunks):
            at = place(row, chunk)
            left, top = x + at % 8 * cell, y + at // 8 * 26
            hot = chunk == marked and row < 8
            d.rect(left, top, cell, 26, STRONG_BLUE if hot else FOUR[chunk % 4] if chunks == 4 else EIGHT[chunk], CARD)
            d.text(left + cell / 2, top + 17, f"{row}.{chunk}", 11, "middle", hot, "#ffffff" if hot else "#1c2330")
    for group in range(8):
        d.text(x + (group + 0.5) * cell, y - 6, str(group), 11, "middle", fill=SOFT)
    d.rect(x, y, 8 * cell, rows * chunks / 8 * 26)


def v5_swizzle() -> Drawing:
    d = Drawing(
        "v5: exchanged chunks of shared memory",
        "Plain rows of 64 bytes put eight rows of one chunk into two groups of banks; exchanged, they fall into eight.",
        900,
        430,
    )
    assert sorted(set(groups(lambda r, c: r * 4 + c, 1, range(8)))) == [1, 5]
    for chunk in range(4):
        assert sorted(groups(v5_place, chunk, range(8))) == list(range(8)), "ldmatrix would meet a bank twice"
    d.text(20, 30, "v5: 16-byte chunks change places, so that ldmatrix meets no bank twice", 16, bold=True)
    d.text(40, 68, "plain", 14, bold=True)
    memory(d, 40, 102, 16, 4, lambda r, c: r * 4 + c, 1, 46)
    d.text(492, 68, "exchanged: chunk ^ (row / 2 % 4)", 14, bold=True)
    memory(d, 492, 102, 16, 4, v5_place, 1, 46)
    d.text(40, 336, "One ldmatrix matrix: chunk 1 of 8 rows (blue)", 13)
    d.text(40, 356, "from 2 groups of banks: 4 wavefronts", 13, bold=True, fill=STRONG_RED)
    d.text(492, 336, "the same 8 rows", 13)
    d.text(492, 356, "from 8 groups of banks: 1 wavefront", 13, bold=True, fill=STRONG_GREEN)
    d.text(40, 392, "“row.chunk”; a line is 128 bytes, all 32 banks; above: the number of the group of 4 banks.", 12, fill=SOFT)
    d.text(40, 412, "Shown is a tile along k: a row is 64 bytes of k of one pixel. 16 of the 128 rows are shown.", 12, fill=SOFT)
    return d


def v7_swizzle() -> Drawing:
    d = Drawing(
        "v7: the 128-byte swizzle",
        "In row r the eight chunks of 16 bytes change places by exclusive or with r modulo 8.",
        900,
        440,
    )
    for chunk in range(8):
        for first in range(8):  # a tap shifts the rows that are read together
            assert sorted(groups(v7_place, chunk, range(first, first + 8))) == list(range(8))
    d.text(20, 30, "v7: the 128-byte swizzle: chunk c of row r stands at place c ^ (r mod 8)", 16, bold=True)
    d.text(40, 68, "as one would number them", 14, bold=True)
    memory(d, 40, 102, 8, 8, lambda r, c: r * 8 + c, 2, 46)
    d.text(492, 68, "as they lie", 14, bold=True)
    memory(d, 492, 102, 8, 8, v7_place, 2, 46)
    d.text(40, 336, "chunk 2 of 8 rows: one group of banks,", 13)
    d.text(40, 356, "8 wavefronts", 13, bold=True, fill=STRONG_RED)
    d.text(492, 336, "8 different groups of banks,", 13)
    d.text(492, 356, "1 wavefront", 13, bold=True, fill=STRONG_GREEN)
    d.text(
        40,
        392,
        "A row is 128 bytes: a pixel of the halo (64 channels of 16 bits, 32 of tf32), or a column of the packed weights.",
        12,
        fill=SOFT,
    )
    d.text(
        40,
        412,
        "wgmma knows this order of B by its descriptor; for A the address of each ldmatrix row is exchanged the same way.",
        12,
        fill=SOFT,
    )
    return d


def halo() -> Drawing:
    d = Drawing(
        "v7: one halo serves all taps",
        "A block's box of 8 by 16 pixels with its halo, 180 pixels, is read once; a tap is an address shifted within it.",
        900,
        430,
    )
    d.text(20, 30, "v7: the halo is loaded once; a tap is only another address in it", 16, bold=True)
    x0, y0, cell = 30, 90, 24
    tap_h, tap_w = 0, 2

    def fill(column: int, row: int) -> str:
        if tap_h <= row < tap_h + 8 and tap_w <= column < tap_w + 16:
            return BLUE
        return GREY

    d.text(x0, 70, "halo in shared memory: 10 × 18 pixels, 128 bytes of channels each", 13)
    d.grid(x0, y0, 18, 10, cell, fill)
    d.rect(x0 + cell, y0 + cell, 16 * cell, 8 * cell, "none", STRONG_ORANGE, 2.5)
    d.rect(x0 + tap_w * cell, y0 + tap_h * cell, 16 * cell, 8 * cell, "none", STRONG_BLUE, 2.5)
    d.rect(x0, 350, 14, 14, "none", STRONG_ORANGE, 2.5)
    d.text(x0 + 22, 362, "the box of output pixels: 8 × 16 = 128 rows of A", 13)
    d.rect(x0, 376, 14, 14, BLUE, STRONG_BLUE, 2.5)
    d.text(x0 + 22, 388, "what tap (0, 2) of a 3 × 3 kernel multiplies", 13)
    d.text(x0, 414, "Zeros outside the image come from the copy engine: no kernel code knows the padding.", 12, fill=SOFT)
    x1 = 510
    d.text(x1, 70, "pixels read from L2 for 9 taps, a chunk of channels", 13, bold=True)
    for y, name, pixels, colour in ((92, "v5: tap by tap, 9 × 128", 1152, ORANGE), (152, "v7: the halo, 10 × 18", 180, BLUE)):
        d.text(x1, y + 12, name, 13)
        d.rect(x1, y + 20, 300 * pixels / 1152, 20, colour)
        d.text(x1 + 300 * pixels / 1152 + 8, y + 35, f"{pixels:,}", 13)
    assert (8 + 2) * (16 + 2) == 180
    d.lines(
        x1,
        232,
        [
            "ldmatrix takes 8 pixels of a row at a time,",
            "at any shift: their numbers modulo 8 differ,",
            "so they stand in 8 different groups of banks.",
        ],
        13,
    )
    d.lines(
        x1,
        310,
        ["choice.h picks the box: the fewest tiles, then", "the smallest halo. 8 × 16 is one of the shapes."],
        13,
    )
    return d


def ring() -> Drawing:
    """kStages and the counts of arrivals as kernels/v7_hopper/halo_gemm.cuh initialises its barriers."""
    d = Drawing(
        "v7: specialised warps and rings of stages",
        "A thread copies pixels, two warps round them, a thread copies weights, two warpgroups multiply; mbarriers connect them.",
        900,
        640,
    )
    d.text(20, 30, "v7, forward: warp specialisation: 12 warps in four roles, rings of stages between them", 16, bold=True)
    d.box(30, 60, 190, 62, ["x in device memory", "float32, NHWC"], GREY)
    d.box(30, 170, 190, 76, ["warp 9, one thread", "copy engine: boxes of", "32 channels"], YELLOW)
    d.arrow((125, 122), (125, 168))
    d.box(286, 170, 150, 76, ["units: 2 stages", "float32, as they", "come"], BLUE)
    d.arrow((220, 208), (284, 208), line=2)
    d.box(500, 170, 170, 76, ["warps 10 and 11", "round to bf16, fp16", "or tf32; swizzle"], ORANGE)
    d.arrow((436, 208), (498, 208), line=2)
    d.box(726, 170, 150, 76, ["halos: 2 stages", "128 bytes of", "channels a pixel"], BLUE)
    d.arrow((670, 208), (724, 208), line=2)
    d.box(
        500,
        330,
        376,
        84,
        ["warps 0 – 7: two warpgroups of 64 rows", "A: ldmatrix from the halo, tap by tap", "B: wgmma reads it where it lies"],
        GREEN,
    )
    d.arrow((801, 246), (801, 328), line=2)
    d.box(286, 334, 150, 76, ["weights: 4 stages", "one tap, 128 bytes", "of k"], BLUE)
    d.arrow((436, 372), (498, 372), line=2)
    d.box(30, 334, 190, 76, ["warp 8, one thread", "bulk copies, tap by", "tap"], YELLOW)
    d.arrow((220, 372), (284, 372), line=2)
    d.box(30, 454, 190, 62, ["packed weights", "rounded, swizzled"], GREY)
    d.arrow((125, 454), (125, 412))
    d.box(500, 460, 376, 56, ["epilogue", "bias, activation, 2 × 2 max pool; y"], RED)
    d.arrow((688, 414), (688, 458), line=2)
    # Back: empty barriers.
    for x1, x2, y in ((361, 125, 262), (760, 610, 262)):
        d.arrow((x1, 246), (x1, y), (x2, y), (x2, 248), stroke=STRONG_PURPLE, dash="4 3")
    d.arrow((361, 410), (361, 428), (140, 428), (140, 412), stroke=STRONG_PURPLE, dash="4 3")
    d.text(243, 280, "empty: 64 arrivals", 12, "middle", fill=STRONG_PURPLE)
    d.text(685, 280, "empty: 8 arrivals", 12, "middle", fill=STRONG_PURPLE)
    d.text(256, 446, "empty: 8 arrivals", 12, "middle", fill=STRONG_PURPLE)
    d.text(252, 158, "full: bytes", 12, "middle", fill=STRONG_BLUE)
    d.text(697, 158, "full: 64 arrivals", 12, "middle", fill=STRONG_BLUE)
    d.text(252, 322, "full: bytes", 12, "middle", fill=STRONG_BLUE)
    d.text(
        30,
        550,
        "A stage has two mbarriers. “full”: the copy engine has written all bytes, or both rounding warps (64 threads) have.",
        12,
    )
    d.text(30, 570, "“empty” (dashed): whoever read the stage gives it back; of the multiplying warps one lane each (8).", 12)
    d.text(
        30,
        596,
        "A step is one tap of one chunk of channels: four wgmma of 32 bytes of k. Two steps are under way: a step first",
        12,
    )
    d.text(
        30, 616, "starts its own wgmma, then waits for those of the step before (wait<1>) and gives that step's weights back.", 12
    )
    return d


def drawings() -> dict[str, Drawing]:
    return {
        "v5_fragments": fragments(),
        "v5_swizzle": v5_swizzle(),
        "v7_halo": halo(),
        "v7_ring": ring(),
        "v7_swizzle": v7_swizzle(),
    }
