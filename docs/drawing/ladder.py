"""The drawings of the float32 rungs: v1's threads, v2's and v4's tiles, v3's halo, v6's passes; sizes are the kernels'."""

from __future__ import annotations

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
    STRONG_RED,
    YELLOW,
    Drawing,
)

FOUR = (BLUE, ORANGE, GREEN, PURPLE)


def v1() -> Drawing:
    d = Drawing(
        "v1: one thread, one output element",
        "Neighbouring threads own neighbouring channels of a pixel; they read the same input value, and weights a filter apart.",
        880,
        470,
    )
    d.text(20, 30, "v1: one thread computes one output element", 16, bold=True)
    d.text(20, 62, "y [N, OH, OW, C_out]: the channels of one pixel lie side by side, a thread each; 256 threads a block")
    for i in range(8):
        d.rect(20 + 62 * i, 74, 62, 30, FOUR[i % 4])
        d.text(51 + 62 * i, 94, f"oc {i}", 12, "middle")
        d.text(51 + 62 * i, 122, f"thread {i}", 11, "middle", fill=SOFT)
    d.text(530, 94, "…")
    d.text(560, 94, "writes: whole sectors", 13, fill=STRONG_GREEN, bold=True)

    d.text(20, 164, "x [N, H, W, C_in]: the window of that pixel")
    d.grid(60, 178, 3, 3, 34, lambda c, r: YELLOW if (c, r) == (1, 0) else CARD)
    d.text(111, 298, "3 × 3 pixels of C_in channels", 11, "middle", fill=SOFT)
    d.arrow((230, 195), (132, 195), stroke=STRONG_ORANGE)
    d.text(240, 199, "all threads of the pixel read the same value at the same time:", 13)
    d.text(240, 219, "one sector for a whole warp (where C_out is a multiple of 32)", 13)
    d.text(240, 247, "reads of x: a broadcast", 13, fill=STRONG_GREEN, bold=True)

    d.text(20, 340, "w [C_out, KH, KW, C_in]: filter after filter")
    for i in range(4):
        left = 20 + 205 * i
        d.rect(left, 354, 205, 30, CARD)
        d.rect(left, 354, 14, 30, FOUR[i])
        d.text(left + 112, 374, f"filter of oc {i}", 12, "middle", fill=SOFT)
        d.arrow((left + 7, 408), (left + 7, 387))
        d.text(left + 16, 412, f"thread {i}", 11, fill=SOFT)
    d.bracket(20, 225, 424, "conv2: 9,216 bytes")
    d.text(860, 444, "reads of w: the 32 values of a warp lie in 32 sectors", 13, "end", True, STRONG_RED)
    return d


def v2() -> Drawing:
    d = Drawing(
        "v2: implicit GEMM from shared memory into registers",
        "A block owns 128 pixels by 128 channels of the output and walks k in steps of 8; a thread owns four 4 by 4 quadrants.",
        900,
        600,
    )
    d.text(20, 30, "v2: the convolution as a matrix product whose left matrix is never stored", 16, bold=True)
    # The product.
    d.rect(40, 210, 150, 300, CARD, SOFT, 1.2, stroke_dasharray="5 4")
    d.rect(210, 70, 180, 120, CARD)
    d.rect(210, 210, 180, 300, CARD)
    d.rect(40, 290, 150, 70, BLUE, "none")
    d.rect(100, 290, 14, 70, STRONG_BLUE, "none")
    d.rect(260, 70, 70, 120, ORANGE, "none")
    d.rect(260, 118, 70, 11, STRONG_ORANGE, "none")
    d.rect(260, 290, 70, 70, GREEN, STRONG_GREEN, 1.5)
    d.text(300, 60, "w: k × output channels", 12, "middle")
    d.text(115, 200, "gathered x: pixels × k", 12, "middle")
    d.text(300, 528, "y: pixels × output channels", 12, "middle")
    d.text(115, 528, "k = (tap, input channel)", 12, "middle", fill=SOFT)
    d.text(295, 322, "128 ×", 12, "middle")
    d.text(295, 340, "128", 12, "middle")
    d.text(20, 556, "dark: one step of 8 k. Both pieces pass through shared memory", 12)
    d.text(20, 574, "(8 × 132 floats each) while the next step waits in registers.", 12)
    # The tile.
    x0, y0, cell = 470, 90, 10
    d.text(x0 + 160, 66, "a block's tile in quadrants of 4 × 4 sums", 13, "middle", bold=True)

    def fill(column: int, row: int) -> str:
        if row % 16 == 0 and column % 16 == 0:
            return STRONG_BLUE
        return BLUE if row % 16 < 4 and column % 16 < 8 else CARD

    d.grid(x0, y0, 32, 32, cell, fill)
    d.rect(x0, y0, 320, 320)
    d.bracket(x0, x0 + 320, y0 + 326, "128 output channels")
    d.text(x0 + 334, y0 + 150, "128", 12, fill=SOFT)
    d.text(x0 + 334, y0 + 166, "pixels", 12, fill=SOFT)
    d.rect(x0, 452, 12, 12, STRONG_BLUE)
    d.text(x0 + 20, 463, "thread 0: four quadrants, 8 × 8 sums in registers", 12)
    d.rect(x0, 472, 12, 12, BLUE)
    d.text(x0 + 20, 483, "the rest of warp 0: 4 × 8 threads; 8 warps tile the block", 12)
    # The loads.
    d.text(x0, 516, "loads of 16 bytes along channels:", 12, bold=True)
    for i, (name, colour) in enumerate([("lane 0", BLUE), ("lane 1", BLUE), ("lane 2", ORANGE), ("lane 3", ORANGE)]):
        d.rect(x0 + 62 * i, 526, 62, 22, colour)
        d.text(x0 + 31 + 62 * i, 541, name, 11, "middle")
    d.text(x0 + 258, 541, "x: two lanes, one sector", 12)
    d.text(x0, 572, "w: a warp reads one k of 128 channels, 512 bytes in a row", 12)
    return d


def v3() -> Drawing:
    d = Drawing(
        "v3: a tile with halo, a window in registers",
        "A block owns 16 by 16 pixels and 32 channels; a lane keeps a 4 by 6 window for 2 by 4 pixels and 8 channels.",
        900,
        540,
    )
    d.text(20, 30, "v3: a 2-D tile with its halo; a window in registers serves all nine taps", 16, bold=True)
    x0, y0, cell = 30, 76, 22
    lane_x, lane_y = 1, 2  # lane 9 of a warp

    def fill(column: int, row: int) -> str:
        inner = 1 <= column <= 16 and 1 <= row <= 16
        r, c = row - 2 * lane_y, column - 4 * lane_x
        if 1 <= r <= 2 and 1 <= c <= 4:
            return STRONG_ORANGE
        if 0 <= r <= 3 and 0 <= c <= 5:
            return ORANGE
        return BLUE if inner else GREY

    d.text(x0, 64, "one input channel in shared memory, 18 × 18 (NCHW)", 13)
    d.grid(x0, y0, 18, 18, cell, fill)
    for i in range(5):
        d.path([(x0 + cell * (1 + 4 * i), y0 + cell), (x0 + cell * (1 + 4 * i), y0 + 17 * cell)], STRONG_BLUE, 1.2)
    for i in range(9):
        d.path([(x0 + cell, y0 + cell * (1 + 2 * i)), (x0 + 17 * cell, y0 + cell * (1 + 2 * i))], STRONG_BLUE, 1.2)
    d.text(x0, 492, "grey: halo. Blue lines: what each of a warp's 32 lanes owns.", 12)
    d.text(x0, 511, "4 channels of the input stand there at a time.", 12)
    x1 = 470
    d.text(x1, 64, "lane 9 of every warp", 13, bold=True)
    d.rect(x1, 80, 14, 14, STRONG_ORANGE)
    d.text(x1 + 22, 92, "owns 2 × 4 pixels of 8 output channels: 64 sums", 13)
    d.rect(x1, 104, 14, 14, ORANGE)
    d.text(x1 + 22, 116, "keeps the 4 × 6 window of one input channel", 13)
    d.text(x1, 152, "Each input channel costs a lane", 13)
    d.text(x1 + 12, 173, "24 values of the window, read once for 9 taps,", 13)
    d.text(x1 + 12, 193, "72 weights (8 for each tap, the same for the warp),", 13)
    d.text(x1 + 12, 213, "and feeds 9 · 8 · 8 = 576 multiply-adds.", 13)
    d.text(x1, 254, "the four warps of a block", 13, bold=True)
    for i in range(4):
        d.box(x1, 268 + 42 * i, 250, 34, [f"warp {i}: output channels {8 * i} – {8 * i + 7}"], FOUR[i])
    d.text(x1, 454, "All four read the same window; each reads its own weights.", 13)
    d.text(x1, 482, "The epilogue adds the bias, applies the activation and", 13)
    d.text(x1, 502, "stores four pixels of a row at once (16 bytes).", 13)
    return d


def v3_weight() -> Drawing:
    d = Drawing(
        "v3: the gradient of the weights",
        "A lane walks down its column with a rolling 3 by 3 window; the lanes' sums meet by warp shuffles.",
        900,
        420,
    )
    d.text(20, 30, "v3, gradient of the weights: a lane walks down its column", 16, bold=True)
    x0, y0, cell = 30, 84, 26
    d.text(x0, 70, "x, one input channel (with halo)", 13)

    def fill(column: int, row: int) -> str:
        if 4 <= column <= 6 and 3 <= row <= 5:
            return STRONG_ORANGE if row == 5 else ORANGE
        return BLUE if 4 <= column <= 6 and row < 3 else CARD

    d.grid(x0, y0, 10, 10, cell, fill)
    d.rect(x0 + 4 * cell, y0 + 3 * cell, 3 * cell, 3 * cell, "none", STRONG_ORANGE, 2)
    d.arrow((x0 + 5.5 * cell, y0 + 6.2 * cell), (x0 + 5.5 * cell, y0 + 8.6 * cell), stroke=STRONG_ORANGE, line=2)
    d.text(x0, 372, "blue: rows the window has passed; dark: the three", 12)
    d.text(x0, 390, "values that this step reads", 12)
    x1 = 350
    d.text(x1, 70, "dy, 8 output channels", 13)
    for i in range(4):
        d.grid(x1 + 12 * i, y0 + 12 * i, 5, 5, cell, lambda c, r: STRONG_GREEN if (c, r) == (2, 3) else GREEN)
        d.rect(x1 + 12 * i, y0 + 12 * i, 5 * cell, 5 * cell, "none", SOFT)
    d.text(x1, y0 + 210, "one value of each channel", 12)
    d.text(x1, y0 + 228, "at the lane's pixel", 12)
    x2 = 570
    d.box(x2, 90, 300, 62, ["each row", "3 + 8 shared reads, 72 multiply-adds"], YELLOW)
    d.arrow((x2 + 150, 152), (x2 + 150, 178))
    d.box(x2, 180, 300, 62, ["in registers", "8 channels × 9 taps = 72 sums a lane"], BLUE)
    d.arrow((x2 + 150, 242), (x2 + 150, 268))
    d.box(x2, 270, 300, 62, ["at the end", "32 lanes meet in warp shuffles"], PURPLE)
    d.text(x2, 360, "A block: 16 output × 4 input channels,", 12)
    d.text(x2, 378, "256 threads, a run of tiles. Partial sums", 12)
    d.text(x2, 396, "of the runs are added in a second pass.", 12)
    return d


def v4_im2col() -> Drawing:
    d = Drawing(
        "v4: im2col in bounded windows",
        "The window under an output pixel becomes a column of a matrix; the weights times that matrix are the output.",
        900,
        440,
    )
    d.text(20, 30, "v4: unfold the windows into a matrix, then one matrix product", 16, bold=True)
    x0, y0, cell = 30, 110, 26
    d.text(x0, 92, "x, channel c", 13)
    d.grid(x0, y0, 6, 6, cell, lambda c, r: STRONG_ORANGE if 1 <= c <= 3 and 2 <= r <= 4 else BLUE)
    for i in range(9):
        d.text(x0 + (1.5 + i % 3) * cell, y0 + (2.5 + i // 3) * cell + 4, str(i), 12, "middle", fill="#ffffff")
    d.text(x0, y0 + 184, "3 × 3 window of one", 12)
    d.text(x0, y0 + 202, "output pixel", 12)
    d.arrow((196, 200), (250, 200), line=2)
    x1, tall = 300, 17
    d.text(x1, 64, "columns [C_in · KH · KW, pixels]", 13)
    d.grid(x1, 76, 10, 18, 22, lambda c, r: STRONG_ORANGE if c == 3 and r >= 9 else BLUE if r < 9 else ORANGE, tall=tall)
    for i in range(9):
        d.text(x1 + 3.5 * 22, 76 + (9.5 + i) * tall + 4, str(i), 11, "middle", fill="#ffffff")
    d.text(x1 - 6, 76 + 4.5 * tall, "c – 1", 12, "end")
    d.text(x1 - 6, 76 + 13.5 * tall, "c", 12, "end")
    d.bracket(x1, x1 + 220, 386, "pixels of several images, at most 24 MiB at a time")
    x2 = 590
    d.box(x2, 84, 60, 60, ["W"], GREEN)
    d.text(x2 + 72, 119, "×", 16)
    d.box(x2 + 98, 84, 100, 60, ["columns"], BLUE)
    d.text(x2 + 208, 119, "=", 16)
    d.box(x2 + 232, 84, 54, 60, ["y"], PURPLE)
    d.text(x2, 176, "W [C_out, C_in · KH · KW]: oihw as it stands", 12)
    d.text(x2, 206, "The product finds the columns in L2 where", 12)
    d.text(x2, 224, "the GPU has 24 MiB of it.", 12)
    d.text(x2, 260, "Where the output has at most half as many", 12)
    d.text(x2, 278, "channels (stride 1), the other side is unfolded:", 12)
    d.text(x2, 296, "y = fold(W' × x), the thinner matrix.", 12)
    d.text(x2, 332, "Fold gathers: a thread adds up what belongs", 12)
    d.text(x2, 350, "to its pixel, tap by tap. No atomics.", 12)
    return d


def v4_gemm() -> Drawing:
    d = Drawing(
        "v4: the double-buffered matrix product",
        "While one shared buffer is multiplied, the next tile is on its way in registers; one barrier a round.",
        900,
        430,
    )
    d.text(20, 30, "v4: two buffers in shared memory, the next tile in registers, one barrier a round", 16, bold=True)
    left, wide = 190, 168
    for name, y in (("load to registers", 100), ("multiply", 160), ("registers to shared", 220)):
        d.text(left - 14, y + 25, name, 13, "end")
    for r in range(4):
        x = left + wide * r
        d.text(x + wide / 2, 76, f"round {r}", 13, "middle", bold=True)
        d.box(x + 6, 100, wide - 12, 38, [f"tile {r + 1} arrives"], YELLOW)
        d.box(x + 6, 160, wide - 12, 38, [f"buffer {r % 2}: tile {r}"], BLUE if r % 2 == 0 else ORANGE)
        d.box(x + 76, 220, wide - 82, 38, [f"to buffer {(r + 1) % 2}"], ORANGE if r % 2 == 0 else BLUE)
        d.path([(x + wide, 88), (x + wide, 272)], STRONG_RED, 2.2)
    d.text(left + 4 * wide, 292, "red: __syncthreads()", 12, "end", fill=STRONG_RED)
    d.text(20, 326, "v2 has one buffer and two barriers a round: after the store, and before the next one.", 13)
    d.text(
        20,
        352,
        "Here the buffer that is written was last read before the barrier of the round before, so one barrier is enough.",
        13,
    )
    d.text(20, 386, "Large tile: 128 × 128 of C, 256 threads, 8 of K a round; a thread owns 8 × 8 sums, as in v2's drawing:", 13)
    d.text(20, 406, "four quadrants of 4 × 4, 64 rows and columns apart, so that 16-byte shared reads meet no bank conflict.", 13)
    return d


def v6() -> Drawing:
    d = Drawing(
        "v6: a bilinear scheme, pass by pass",
        "Input and filters are transformed, multiplied position by position, and the result is transformed back.",
        900,
        520,
    )
    d.text(20, 30, "v6: transforms around one matrix product per position (winograd4)", 16, bold=True)
    x0, y0, cell = 36, 100, 22
    d.text(x0, 84, "x: patches of 6 × 6, 4 apart", 13)

    def fill(column: int, row: int) -> str:
        first, second = column < 6 and row < 6, column >= 4 and row < 6
        return PURPLE if first and second else BLUE if first else ORANGE if second else CARD

    d.grid(x0, y0, 10, 7, cell, fill)
    d.rect(x0 + cell, y0 + cell, 4 * cell, 4 * cell, "none", STRONG_BLUE, 2)
    d.rect(x0 + 5 * cell, y0 + cell, 4 * cell, 4 * cell, "none", STRONG_ORANGE, 2)
    d.text(x0, 278, "outlined: the 4 × 4 outputs of each tile (padding 1)", 12)
    d.arrow((266, 166), (312, 166), line=2)
    d.box(316, 128, 168, 76, ["input transform", "V = B x Bᵀ", "a thread: one patch,", "2 or 4 channels"], BLUE, 12)
    d.arrow((484, 166), (520, 166), line=2)
    d.text(610, 84, "V: 36 positions", 13, "middle")
    for i in range(5):
        d.rect(536 + 8 * i, 128 - 7 * i, 118, 64, BLUE if i < 4 else CARD, SOFT)
    d.rect(536 + 32, 100, 118, 64, BLUE)
    d.text(627, 136, "tiles × C_in", 12, "middle")
    d.arrow((700, 150), (736, 150), line=2)
    d.box(740, 100, 140, 92, ["36 products", "M = V U", "tile 128 × 128 of", "common/gemm"], YELLOW, 12)
    d.text(x0, 330, "w [3, 3, C_in, C_out]", 13)
    d.grid(x0, 342, 3, 3, 22, lambda c, r: GREEN)
    d.arrow((120, 374), (312, 374), line=2)
    d.box(316, 338, 168, 72, ["filter transform", "U = G w Gᵀ", "3 × 3 becomes 6 × 6"], GREEN, 12)
    d.arrow((484, 374), (520, 374), line=2)
    for i in range(5):
        d.rect(536 + 8 * i, 352 - 7 * i, 118, 64, GREEN, SOFT)
    d.text(627, 360, "C_in × C_out", 12, "middle")
    d.text(610, 306, "U: 36 positions", 13, "middle")
    d.arrow((700, 360), (790, 360), (790, 196), line=2)
    d.path([(880, 146), (890, 146), (890, 446), (852, 446)], line=2)
    d.arrow((890, 446), (826, 446), line=2)
    d.box(500, 426, 322, 60, ["output transform", "y = pool(activation(A M Aᵀ + bias))"], RED, 12)
    d.text(20, 446, "36 products give 16 outputs: 2.25 instead", 12)
    d.text(20, 464, "of 9 multiplications an output. V and M of a", 12)
    d.text(20, 482, "chunk (at most 32 MiB) are written once and", 12)
    d.text(20, 500, "read once; an H100's L2 has room for both.", 12)
    return d


def split_sum() -> Drawing:
    d = Drawing(
        "The gradient of the weights: a long sum, split",
        "Blocks add up parts of the pixels into places of their own; a second kernel adds the parts in a fixed order.",
        900,
        330,
    )
    d.text(
        20, 30, "A few results, each a sum over all pixels: split the pixels, then add the parts in a fixed order", 16, bold=True
    )
    x0, y0, cell = 24, 84, 16
    d.text(x0, 70, "rows of pixels (x and dy)", 13)
    d.grid(x0, y0, 10, 12, cell, lambda c, r: FOUR[r // 3])
    places = []
    for i, fill in enumerate(FOUR):
        y = y0 + i * 3 * cell
        d.arrow((x0 + 10 * cell + 6, y + 24), (x0 + 10 * cell + 54, y + 24))
        d.box(x0 + 226, y + 3, 104, 42, [f"block {i}", "its own sums"], fill, 12)
        d.arrow((x0 + 336, y + 24), (x0 + 384, y + 24))
        d.box(x0 + 390, y + 3, 96, 42, [f"parts[{i}]"], fill, 12)
        places.append(y + 24)
    d.bracket(x0 + 226, x0 + 486, y0 + 200, "first kernel: no block waits for another one")
    top = (places[0] + places[-1]) / 2
    for y in places:
        d.path([(x0 + 492, y), (x0 + 516, y)])
    d.path([(x0 + 516, places[0]), (x0 + 516, places[-1])])
    d.arrow((x0 + 516, top), (x0 + 544, top))
    d.box(x0 + 550, top - 34, 132, 68, ["dk", "((p0 + p1) + p2) + p3"], GREY, 11)
    d.bracket(x0 + 550, x0 + 682, y0 + 200, "second kernel: one order")
    d.lines(
        x0 + 694,
        top - 44,
        [
            "With atomicAdd to dk:",
            "no parts, one kernel;",
            "but who comes first",
            "is chance, and so are",
            "a float sum's last bits",
        ],
        12,
        1.5,
    )
    d.text(x0, 320, "More splits: more blocks at work, and more parts to write and to read.", 13)
    return d


def drawings() -> dict[str, Drawing]:
    return {
        "v1_threads": v1(),
        "v2_tile": v2(),
        "v3_halo": v3(),
        "v3_weight_gradient": v3_weight(),
        "v4_im2col": v4_im2col(),
        "v4_double_buffer": v4_gemm(),
        "v6_passes": v6(),
        "split_sum": split_sum(),
    }
