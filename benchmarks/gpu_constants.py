"""What documents say of five GPUs: the constants of benchmarks/step_model.py, each with its source. Nothing here was fitted.

Sources, by letter:
  D  NVIDIA's data sheets (H100 SXM5, A100 80GB PCIe, L4, T4) and the GeForce RTX 4090 page: peaks at boost clock, bandwidth
  W  NVIDIA's architecture whitepapers (GA100, GH100, AD102, TU102): units of a multiprocessor, L2 size, bytes a clock of L1 and
     shared memory
  B  github.com/te42kyfo/gpu-benches, result files gpu-l2-cache/{h200,a100_80,l40}.txt, gpu-latency/{h100_pcie,l40}.txt,
     cuda-latency/a100_80.txt and gpu-small-kernels/{h200,a100_80,l40}_graph.txt, read for this table
  L  Luo et al., arXiv:2402.13499 (Hopper, Ampere, Ada): shared-memory latency; mma.sync on Hopper reaches 62.9 % of the peak.
     Quoted from memory, the paper could not be opened here
  J  Jia et al., arXiv:1903.07486 (T4): latencies and the L2's bandwidth. Quoted from memory, likewise
  =  derived from one of these, as the comment says
"""

from __future__ import annotations

from dataclasses import dataclass

DEPENDENT_ISSUE = 4  # clocks from an instruction to one that needs its result: Volta and later (Jia et al., arXiv:1804.06826)
ISSUE_PER_CLOCK = 4  # warp instructions a multiprocessor: four schedulers, one each (W)
SHARED_BYTES = 128  # a clock and multiprocessor (W)
L1_BYTES = 128  # the same for the L1 cache (W)
L2_BYTES_PER_SM = 64  # a clock from the L2 to one multiprocessor (W, GA100)


@dataclass(frozen=True)
class Gpu:
    multiprocessors: int  # W
    clock: float  # GHz, boost: D
    fma_lanes: int  # float32 a clock and multiprocessor: W
    half_flops: int  # 16-bit tensor FLOP a clock and multiprocessor, summed in float32: D over multiprocessors and clock
    tf32_flops: int  # the same of TF32; 0: none
    sync_share: float  # of that peak, what mma.sync reaches: L for Hopper; elsewhere 1
    memory: float  # GB/s: D
    l2: float  # GB/s
    l2_megabytes: float  # W
    l2_latency: float  # clocks
    shared_latency: float  # clocks
    node: float  # us from one node of a graph to the next where the kernel does next to nothing
    registers: int  # a multiprocessor: W
    shared: int  # bytes a multiprocessor: W
    threads: int  # resident, a multiprocessor: W
    architecture: int  # column of the static report: 0 sm_75, 1 sm_80 (and Ada), 2 sm_90a
    bf16: bool = True


GPUS = {
    # l2: B, h200.txt (the same chip) between 10 and 35 MB, 9.7 TB/s. node: B, h200_graph.txt, 64 KiB in 512s: 30 GB/s = 2.2 us.
    "H100": Gpu(132, 1.83, 128, 4096, 2048, 0.629, 3352, 9700, 50, 265, 29, 2.2, 65536, 233472, 2048, 2),
    # l2: B, a100_80.txt below 25 MB. node: B, a100_80_graph.txt, 49 GB/s = 1.3 us.
    "A100": Gpu(108, 1.41, 64, 2048, 1024, 1.0, 1935, 5400, 40, 211, 29, 1.3, 65536, 167936, 2048, 1),
    # l2, node: = B, l40.txt (same family): 5.2 TB/s by multiprocessors and clock; l40_graph.txt, 70 GB/s = 0.94 us.
    "RTX 4090": Gpu(128, 2.52, 128, 512, 256, 1.0, 1008, 4750, 72, 277, 30, 0.94, 65536, 102400, 1536, 1),
    "L4": Gpu(58, 2.04, 128, 1024, 512, 1.0, 300, 1740, 48, 277, 30, 0.94, 65536, 102400, 1536, 1),
    # l2, latencies: J. node: no document; the A100's.
    "T4": Gpu(40, 1.59, 64, 1024, 0, 1.0, 320, 1270, 4, 188, 19, 1.3, 65536, 65536, 1024, 0, bf16=False),
}  # fmt: skip
