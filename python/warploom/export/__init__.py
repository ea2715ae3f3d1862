"""Networks in other programs' formats: ONNX files, PyTorch modules, state dicts.

wl.export.onnx(model, "net.onnx")               ONNX, opset 18: the whole network, its encoder or its decoder
wl.export.detector(detector, "detector.onnx")   from pixels to score, label, heat map and mask
wl.export.torch(model, "net.pt")                a state dict, and beside it net.py, a PyTorch module that takes it
model.save("net.safetensors", dtype="bf16")     warploom's own file in half the bytes
model.load_state_dict(wl.export.read_state_dict("net.pt"))     and back
model = wl.export.read_onnx("net.onnx")
"""

from warploom.export.compare import Difference, compare, compare_detector
from warploom.export.onnx_detector import write_detector as detector
from warploom.export.onnx_file import write_onnx as onnx
from warploom.export.onnx_reader import read_onnx
from warploom.export.part import PARTS
from warploom.export.state_files import read_state_dict
from warploom.export.torch_file import write_torch as torch

__all__ = ["PARTS", "Difference", "compare", "compare_detector", "detector", "onnx", "read_onnx", "read_state_dict", "torch"]
