"""The workers of torchrun, through PyTorch's own collectives on the host (gloo)."""

import atexit
import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np

from warploom.errors import DeviceError
from warploom.ground.array_types import Array


class Gloo:
    """RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT say who is there."""

    def __init__(self) -> None:
        try:
            import torch
            import torch.distributed as collectives
        except ImportError:
            raise DeviceError("torchrun started this worker, but PyTorch is not installed here: pip install torch") from None
        try:  # a long wait is no fault: a worker that is gone is told by what watches it
            collectives.init_process_group("gloo", timeout=datetime.timedelta(days=30))
        except (ValueError, RuntimeError) as error:
            raise DeviceError(f"the workers of torchrun do not find each other ({str(error).splitlines()[0]})") from None
        self.failed = self.computes = False
        atexit.register(self._close)
        self._torch, self._collectives = torch, collectives
        self.rank, self.size = int(collectives.get_rank()), int(collectives.get_world_size())
        self.engine = f"gloo (PyTorch {torch.__version__})"

    def _close(self) -> None:
        if not self.failed:
            self._collectives.destroy_process_group()

    def exchange(self, value: Any) -> list[Any]:
        found: list[Any] = [None] * self.size
        self._collectives.all_gather_object(found, value)
        return found

    def meet(self) -> None:
        pass  # gloo waits asleep

    def share(self, buffer: Array, counts: Sequence[int]) -> None:
        longest, bounds = max(counts), np.cumsum([0, *counts])
        own = np.zeros(longest, buffer.dtype)
        own[: counts[self.rank]] = buffer[bounds[self.rank] : bounds[self.rank + 1]]
        parts = [self._torch.from_numpy(np.empty_like(own)) for _ in counts]
        self._collectives.all_gather(parts, self._torch.from_numpy(own))
        for rank, part in enumerate(parts):
            buffer[bounds[rank] : bounds[rank + 1]] = part.numpy()[: counts[rank]]

    def swap(self, send: Array, send_counts: Sequence[int], receive: Array, receive_counts: Sequence[int]) -> None:
        self._collectives.all_to_all_single(
            self._torch.from_numpy(receive), self._torch.from_numpy(send), list(receive_counts), list(send_counts)
        )

    def spread(self, buffer: Array) -> None:
        self._collectives.broadcast(self._torch.from_numpy(buffer), 0)

    def sum(self, buffer: Array) -> None:
        self._collectives.all_reduce(self._torch.from_numpy(buffer))
