"""Looking at kernels: compiled code, counters of the emulated device, profiles of a training step."""
