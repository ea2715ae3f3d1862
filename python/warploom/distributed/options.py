"""What several workers may be told: Options."""

import math
from dataclasses import dataclass

from warploom.errors import ArgumentError

REDUCE = ("same", "fast")
BUCKET_MB = 25.0  # as PyTorch's bucket_cap_mb


@dataclass(frozen=True)
class Options:
    """For `model.compile(distributed=Options(...))`.

    reduce: "same" adds the gradients in the tree's order, with the same bits for any number of workers; "fast" has MPI, gloo or
    NCCL add them in its own (an all-reduce), with other bits for another number of workers.
    shard_optimizer: every worker keeps the optimizer's states of one part of the parameters and updates that part alone (ZeRO
    stage 1: Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054); the same bits as without.
    bucket_mb: the gradient is sent in buckets of so many MiB, each while backward goes on with the layers before it (Li et al.
    2020, https://arxiv.org/abs/2006.15704); the same bits whatever the number. 0: in one piece, after backward.
    sync_batch_norm: batch norms take the statistics of the whole batch, not of a shard (PyTorch's SyncBatchNorm). All shards of
    a worker are then under way at once, each with memory for its activations and gradients, and no bucket goes before the end.
    """

    reduce: str = "same"
    shard_optimizer: bool = False
    bucket_mb: float = BUCKET_MB
    sync_batch_norm: bool = False

    def __post_init__(self) -> None:
        if self.reduce not in REDUCE:
            raise ArgumentError(f"reduce must be 'same' or 'fast', not {self.reduce!r}")
        if not 0 <= self.bucket_mb < math.inf:
            raise ArgumentError(f"bucket_mb must be a number of MiB, or 0 for one piece; not {self.bucket_mb!r}")

    @property
    def bucket_elements(self) -> int:
        """Numbers in a bucket; 0: all are one."""
        return math.ceil(self.bucket_mb * 2**20 / 4)
