"""Label maps whose scale is not the class numbers': the foreground of a binary mask is often written as 255."""

import numpy as np

from warploom.ground.array_types import Array

_CHUNK = 256  # label maps looked at in one go


def read_as_meant(training: dict[str, Array], testing: dict[str, Array], classes: int, ignored: int) -> list[str]:
    """Changes the arrays "labels" of both where all of them hold nothing but 0 and `ignored`; sentences about what was found.

    With two classes such maps are binary masks, and `ignored` (255) is read as class 1. With more classes they stay: no
    pixel but the background's counts, which a user should know.
    """
    if classes > ignored:
        return []
    found = set[int]()
    for part in (training, testing):
        for start in range(0, len(part["labels"]), _CHUNK):
            found |= set(np.unique(part["labels"][start : start + _CHUNK]).tolist())
            if found - {0, ignored}:
                return []
    if ignored not in found:
        return []
    if classes == 2 and 0 in found:
        for part in (training, testing):
            part["labels"] = np.where(part["labels"] == ignored, part["labels"].dtype.type(1), part["labels"])
        return [f"the label maps hold only 0 and {ignored}: {ignored} is read as class 1, as in binary masks"]
    return [
        f"the label maps hold {' and '.join(map(str, sorted(found)))} only, and {ignored} is ignored: the model is trained on "
        f"nothing but class 0; write the class numbers 1 to {classes - 1} into the maps"
    ]
