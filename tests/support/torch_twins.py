"""The model zoo and its losses once more, in PyTorch, under the same parameter names. Imported only where torch is installed.

A twin lays its modules out by dotted names, as the package does, so that state dicts move between the two as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

Tensor = torch.Tensor
# The networks take any float type: parity is judged against float64.


class Net(nn.Module):
    """Modules under dotted names: add("encoder.conv1", ...) and self["encoder.conv1"]."""

    def add(self, name: str, module: nn.Module) -> None:
        *path, last = name.split(".")
        parent: nn.Module = self
        for part in path:
            if part not in dict(parent.named_children()):
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        parent.add_module(last, module)

    def __getitem__(self, name: str) -> Any:
        return self.get_submodule(name)


class Cifar10(Net):
    def __init__(self) -> None:
        super().__init__()
        for i, (a, b) in enumerate([(3, 256), (256, 128), (128, 128), (128, 256), (256, 3)], start=1):
            self.add(f"conv{i}", nn.Conv2d(a, b, 3, padding=1))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.max_pool2d(F.relu(self["conv1"](x)), 2)
        x = F.max_pool2d(F.relu(self["conv2"](x)), 2)
        x = F.interpolate(F.relu(self["conv3"](x)), scale_factor=2)
        x = F.interpolate(F.relu(self["conv4"](x)), scale_factor=2)
        return [self["conv5"](x)]


class UNet(Net):
    def __init__(self, large: bool, classes: int) -> None:
        super().__init__()
        self.large = large
        if large:
            for i, (a, b) in enumerate([(3, 64), (64, 64), (64, 32)]):
                self.block(f"prep{i}", a, b, 1)
        first, encoder, bottleneck, decoder = (32, (8, 28, 56), 112, (56, 28, 48)) if large else (3, (4, 8, 32), 64, (32, 8, 16))
        for name, a, b in zip(("enc1", "enc2", "enc3", "bneck"), (first, *encoder), (*encoder, bottleneck), strict=True):
            self.block(name, a, b, 3)
        below = bottleneck
        for level, width in zip((3, 2, 1), decoder, strict=True):
            skip = encoder[level - 1]
            self.add(f"upconv{level}", nn.ConvTranspose2d(below, skip, 3, stride=2, padding=1, output_padding=1))
            self.block(f"dec{level}", 2 * skip, width, 3)
            below = width
        if large:
            self.block("dec0", 48, 64, 3)
            for i in (1, 2, 3):
                self.block(f"conv_p{i}", 64, 64, 1)
        self.add("conv", nn.Conv2d(64 if large else 16, classes, 1))

    def block(self, name: str, c_in: int, c_out: int, kernel: int) -> None:
        self.add(f"{name}.conv", nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2))
        self.add(f"{name}.bn", nn.BatchNorm2d(c_out))

    def run(self, name: str, x: Tensor, relu: bool = True) -> Tensor:
        x = self[f"{name}.bn"](self[f"{name}.conv"](x))
        return F.relu(x) if relu else x

    def forward(self, x: Tensor) -> list[Tensor]:
        for i in range(3 if self.large else 0):
            x = self.run(f"prep{i}", x)
        skips = [self.run("enc1", x)]
        for name in ("enc2", "enc3", "bneck"):
            skips.append(self.run(name, F.max_pool2d(skips[-1], 2)))
        x = skips.pop()
        for level in (3, 2, 1):
            x = self.run(f"dec{level}", torch.cat([self[f"upconv{level}"](x), skips[level - 1]], 1))
        if self.large:
            x = self.run("conv_p2", self.run("conv_p1", self.run("dec0", x)))
            x = self.run("conv_p3", x, relu=False)
        return [self["conv"](x)]


class Gray(Net):
    def __init__(self, skips: bool = False, residual: bool = False, groups: int = 1, width: int = 64) -> None:
        super().__init__()
        self.skips, self.residual = skips, residual
        w, wide = width, 2 if skips else 1
        ins, outs = (1, w, 2 * w, 4 * w), (w, 2 * w, 4 * w, w)
        back, forth = (w, 4 * w * wide, 2 * w * wide, w * wide), (4 * w, 2 * w, w, 1)
        for i in range(4):
            last = i == 3
            self.add(f"enc{i + 1}.conv", nn.Conv2d(ins[i], outs[i], 4, 2, 1, groups=groups if i else 1, bias=last))
            transposed = nn.ConvTranspose2d(back[i], forth[i], 4, 2, 1, groups=1 if last else groups, bias=last)
            self.add(f"dec{i + 1}.conv", transposed)
            if not last:
                self.add(f"enc{i + 1}.bn", nn.BatchNorm2d(outs[i]))
                self.add(f"dec{i + 1}.bn", nn.BatchNorm2d(forth[i]))
            if residual:
                for name, c in ((f"enc{i + 1}_res", outs[i]), (f"dec{i + 1}_res", back[i])):
                    for k in (1, 2):
                        self.add(f"{name}.conv{k}", nn.Conv2d(c, c, 3, padding=1, bias=False))
                        self.add(f"{name}.bn{k}", nn.BatchNorm2d(c))

    def block(self, name: str, x: Tensor) -> Tensor:
        if not self.residual:
            return x
        h = F.leaky_relu(self[f"{name}.bn1"](self[f"{name}.conv1"](x)), 0.2)
        return F.leaky_relu(x + self[f"{name}.bn2"](self[f"{name}.conv2"](h)), 0.2)

    def forward(self, x: Tensor) -> list[Tensor]:
        kept = []
        for i in (1, 2, 3, 4):
            x = self[f"enc{i}.conv"](x)
            if i < 4:
                x = F.leaky_relu(self[f"enc{i}.bn"](x), 0.2)
            x = self.block(f"enc{i}_res", x)
            kept.append(x)
        for i in (1, 2, 3, 4):
            x = self[f"dec{i}.conv"](self.block(f"dec{i}_res", x))
            if i < 4:
                x = F.leaky_relu(self[f"dec{i}.bn"](x), 0.2)
                if self.skips:
                    x = torch.cat([x, kept[3 - i]], 1)
        return [torch.sigmoid(x)]


class DsResNet(Net):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        w = width
        for image in ("bg", "bg_fg"):
            self.stage(f"{image}.enc1", 3, w)
            self.stage(f"{image}.enc2", w, 2 * w)
        self.add("common.join.conv", nn.Conv2d(4 * w, 2 * w, 1))
        for i in (1, 2, 3, 4):
            self.stage(f"common.enc{i}", w << i, w << (i + 1))
        for task in ("depth", "mask"):
            for level in (5, 4, 3, 2, 1):
                a = w << level
                self.add(f"{task}.dec{level}.reduce", nn.Conv2d(a, a // 2, 1))
                if level < 3:
                    self.add(f"{task}.dec{level}.joint", nn.Conv2d(a, a // 2, 1))
                self.stage(f"{task}.dec{level}", a, a // 2)
            self.add(f"{task}.head", nn.Conv2d(w, 1, 1))

    def stage(self, name: str, a: int, b: int) -> None:
        for i, c in ((1, a), (2, b)):
            self.add(f"{name}.conv{i}", nn.Conv2d(c, b, 3, padding=1))
            self.add(f"{name}.bn{i}", nn.BatchNorm2d(b))
        self.add(f"{name}.shortcut", nn.Conv2d(a, b, 1))

    def run(self, name: str, x: Tensor) -> Tensor:
        h = x
        for i in (1, 2):
            h = self[f"{name}.bn{i}"](F.relu(self[f"{name}.conv{i}"](h)))
        return h + self[f"{name}.shortcut"](x)

    def forward(self, bg: Tensor, bg_fg: Tensor) -> list[Tensor]:
        first = [self.run("bg.enc1", bg), self.run("bg_fg.enc1", bg_fg)]
        second = [self.run(f"{image}.enc2", F.max_pool2d(x, 2)) for image, x in zip(("bg", "bg_fg"), first, strict=True)]
        h = self["common.join.conv"](torch.cat([F.max_pool2d(x, 2) for x in second], 1))
        full = []
        for i in (1, 2, 3, 4):
            full.append(self.run(f"common.enc{i}", F.max_pool2d(h, 2) if i > 1 else h))
            h = full[-1]
        outputs = []
        for task in ("depth", "mask"):
            x = full[3]
            for level in (5, 4, 3, 2, 1):
                name = f"{task}.dec{level}"
                x = F.interpolate(self[f"{name}.reduce"](x), scale_factor=2, mode="bilinear", align_corners=False)
                early = {2: second, 1: first}.get(level)
                skip = full[level - 3] if early is None else self[f"{name}.joint"](torch.cat(early, 1))
                x = self.run(name, torch.cat([x, skip], 1))
            outputs.append(self[f"{task}.head"](x))
        return outputs


def block_major(x: Tensor) -> Tensor:
    """Depth to space by 2 with out[c, 2y+i, 2x+j] = in[(2i+j)*C + c, y, x]."""
    n, c, h, w = x.shape
    return x.reshape(n, 2, 2, c // 4, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // 4, 2 * h, 2 * w)


class Liae(Net):
    def __init__(self, size: int, ae_dims: int, e_dims: int, d_dims: int, d_mask_dims: int) -> None:
        super().__init__()
        self.low, self.code = size // 32, 2 * ae_dims
        c = 3
        for i in range(4):
            self.add(f"encoder.conv{i + 1}", nn.Conv2d(c, e_dims << i, 5, 2, 2))
            c = e_dims << i
        for inter in ("inter_ab", "inter_b"):
            self.add(f"{inter}.fc1", nn.Linear(c * (size // 16) ** 2, ae_dims))
            self.add(f"{inter}.fc2", nn.Linear(ae_dims, self.code * self.low**2))
            self.add(f"{inter}.conv", nn.Conv2d(self.code, 4 * self.code, 3, padding=1))
        for base, dims, scales in (("up", d_dims, (8, 4, 2)), ("mask_up", d_mask_dims, (8, 4, 2, 1))):
            c = 2 * self.code
            for i, scale in enumerate(scales, start=1):
                self.add(f"decoder.{base}{i}", nn.Conv2d(c, 4 * scale * dims, 3, padding=1))
                c = scale * dims
                for k in (1, 2) if base == "up" else ():
                    self.add(f"decoder.res{i}.conv{k}", nn.Conv2d(c, c, 3, padding=1))
        for k in range(4):
            self.add(f"decoder.image.conv{k}", nn.Conv2d(2 * d_dims, 3, 3, padding=1))
        self.add("decoder.mask.conv", nn.Conv2d(d_mask_dims, 1, 1))

    def encode(self, x: Tensor) -> Tensor:
        for i in range(4):
            x = F.leaky_relu(self[f"encoder.conv{i + 1}"](x), 0.1)
        x = x.flatten(1)
        return x / torch.sqrt(x.square().mean(1, keepdim=True) + 1e-6)

    def up(self, name: str, x: Tensor) -> Tensor:
        return block_major(F.leaky_relu(self[name](x), 0.1))

    def inter(self, name: str, x: Tensor) -> Tensor:
        x = self[f"{name}.fc2"](self[f"{name}.fc1"](x)).reshape(len(x), self.code, self.low, self.low)
        return self.up(f"{name}.conv", x)

    def decode(self, first: Tensor, second: Tensor) -> list[Tensor]:
        x = both = torch.cat([first, second], 1)
        for i in (1, 2, 3):
            x = self.up(f"decoder.up{i}", x)
            h = self[f"decoder.res{i}.conv2"](F.leaky_relu(self[f"decoder.res{i}.conv1"](x), 0.2))
            x = F.leaky_relu(x + h, 0.2)
        image = torch.sigmoid(block_major(torch.cat([self[f"decoder.image.conv{k}"](x) for k in range(4)], 1)))
        x = both
        for i in (1, 2, 3, 4):
            x = self.up(f"decoder.mask_up{i}", x)
        return [image, torch.sigmoid(self["decoder.mask.conv"](x))]

    def forward(self, src: Tensor, dst: Tensor) -> list[Tensor]:
        a, b = self.encode(src), self.encode(dst)
        ab = self.inter("inter_ab", a)
        return [*self.decode(ab, ab), *self.decode(self.inter("inter_b", b), self.inter("inter_ab", b))]

    def swap(self, dst: Tensor) -> list[Tensor]:
        code = self.inter("inter_ab", self.encode(dst))
        return self.decode(code, code)


# Losses


def ssim(a: Tensor, b: Tensor, window: int, sigma: float = 1.5) -> Tensor:
    """Mean SSIM: a Gaussian window without padding, per channel."""
    at = torch.arange(window, dtype=a.dtype) - (window - 1) / 2
    line = torch.exp(-(at**2) / (2 * sigma**2))
    kernel = torch.outer(line, line) / line.sum() ** 2
    channels = a.shape[1]
    weight = kernel.expand(channels, 1, window, window)

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(x, weight, groups=channels)

    ma, mb = blur(a), blur(b)
    va, vb, cab = blur(a * a) - ma * ma, blur(b * b) - mb * mb, blur(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    return ((2 * ma * mb + c1) * (2 * cab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean()


def dice(p: Tensor, t: Tensor, smooth: float = 1e-6) -> Tensor:
    return 1 - (2 * (p * t).sum() + smooth) / (p.sum() + t.sum() + smooth)


def gray_loss(outputs: list[Tensor], y: list[Tensor]) -> Tensor:
    return F.mse_loss(outputs[0], y[0]) + 0.1 * (1 - ssim(outputs[0], y[0], 11))


def unet_loss(outputs: list[Tensor], y: list[Tensor]) -> Tensor:
    return F.cross_entropy(outputs[0], y[0].long())


def cifar10_loss(outputs: list[Tensor], y: list[Tensor]) -> Tensor:
    return F.mse_loss(outputs[0], y[0])


def dsresnet_loss(outputs: list[Tensor], y: list[Tensor]) -> Tensor:
    depth = 2 * torch.sqrt(F.mse_loss(torch.sigmoid(outputs[0]), y[0]) + 1e-6)
    return depth + F.binary_cross_entropy_with_logits(outputs[1], y[1]) + 2 * dice(torch.sigmoid(outputs[1]), y[1])


def liae_loss(resolution: int) -> Callable[[list[Tensor], list[Tensor]], Tensor]:
    windows = ((22, 5.0), (11, 5.0)) if resolution >= 256 else ((int(resolution / 11.6), 10.0),)

    def loss(outputs: list[Tensor], y: list[Tensor]) -> Tensor:
        total = torch.zeros((), dtype=outputs[0].dtype)
        for person in (0, 1):
            image, mask = outputs[2 * person], outputs[2 * person + 1]
            face, mask_target, weight = y[2 * person], y[2 * person + 1], y[4 + person]
            for window, factor in windows:
                total = total + factor * (1 - ssim(image * weight, face * weight, window)) / 2
            total = total + 10 * F.mse_loss(image * weight, face * weight) + 10 * F.mse_loss(mask, mask_target)
        return total

    return loss


def of_full_size() -> dict[str, tuple[Callable[[], nn.Module], Any]]:
    """By our model's name, with its defaults: what makes the twin, and its loss."""
    return {
        "cifar10_autoencoder": (Cifar10, cifar10_loss),
        "unet_small": (partial(UNet, False, 32), unet_loss),
        "unet_large": (partial(UNet, True, 256), unet_loss),
        "gray_autoencoder": (Gray, gray_loss),
        "dsresnet": (DsResNet, dsresnet_loss),
        "liae_ud": (partial(Liae, 256, 256, 64, 64, 22), liae_loss(256)),
    }
