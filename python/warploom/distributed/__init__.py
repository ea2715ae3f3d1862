"""Training on several workers: MPI, torchrun or srun start them, and the bits are the same however many they are."""

from warploom.distributed.engine import SHARDS
from warploom.distributed.options import Options
from warploom.distributed.world import World, init, launched, world

__all__ = ["SHARDS", "Options", "World", "init", "launched", "world"]
