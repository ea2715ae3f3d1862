"""What several workers may be told: Options."""

from dataclasses import dataclass

from warploom.errors import ArgumentError

REDUCE = ("same", "fast")


@dataclass(frozen=True)
class Options:
    """For `model.compile(distributed=Options(...))`.

    reduce: "same" adds the gradients in the tree's order, with the same bits for any number of workers; "fast" has MPI, gloo or
    NCCL add them in its own (an all-reduce), with other bits for another number of workers.
    shard_optimizer: every worker keeps the optimizer's states of one part of the parameters and updates that part alone (ZeRO
    stage 1: Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054); the same bits as without.
    """

    reduce: str = "same"
    shard_optimizer: bool = False

    def __post_init__(self) -> None:
        if self.reduce not in REDUCE:
            raise ArgumentError(f"reduce must be 'same' or 'fast', not {self.reduce!r}")
