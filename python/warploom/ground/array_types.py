"""Names for the array types of the package."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # float32 unless a comment says otherwise
Floats = NDArray[np.float32]
Shape = tuple[int, ...]
Sizes = int | tuple[int, ...]  # one number, or one per axis
