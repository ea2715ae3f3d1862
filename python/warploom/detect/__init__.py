"""Finding abnormal images with an autoencoder that was trained on normal ones: scores, thresholds, heat maps, one file.

detector = warploom.detect.Detector("runs/...", "mse+latent").fit("normal images")
detector.predict("new images")            # 1: abnormal
"""

from warploom.detect.curves import Curve, auroc, average_precision, curve
from warploom.detect.detector import Detector, Finding
from warploom.detect.steps import Part, Steps

__all__ = ["Curve", "Detector", "Finding", "Part", "Steps", "auroc", "average_precision", "curve", "load"]

load = Detector.load
