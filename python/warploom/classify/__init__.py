"""From features to classes: a linear and an RBF classifier for many features of many images, in little memory.

    from warploom.classify import classify

    result = classify(train_features, train_labels, test_features, test_labels, methods=("linear", "rbf"))
    print(result["rbf"].accuracy, result["rbf"].interval)

features: an array [n, d] of any float type, a memory map, the path of a .npy file (read in blocks, never mapped), or any object
with `shape` and blocks(rows), an iterator over float arrays [at most rows, d] in order, which may be asked for again: features
that are computed as they are asked for. Labels are class numbers [n]. Needs scikit-learn.
"""

from warploom.classify.classifier import Classifier
from warploom.classify.experiment import Result, classify
from warploom.classify.sources import Source, as_source

__all__ = ["Classifier", "Result", "Source", "as_source", "classify"]
