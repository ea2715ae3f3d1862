"""LIAE-ud: an autoencoder of two people whose shared code lets one's face be swapped for the other's.

One encoder and one decoder serve both people. A code is what an inter makes of the encoder's output; inter AB sees both people,
inter B the second one (dst) alone. The decoder takes two codes, one after the other along the channels:

    src = decoder(AB(src), AB(src))    dst = decoder(B(dst), AB(dst))    swap = decoder(AB(dst), AB(dst))

Names: encoder.conv1 … conv4; inter_ab.fc1, fc2, conv and the same for inter_b; decoder.up1 … up3, decoder.res1.conv1, .conv2 …
res3, decoder.image.conv0 … conv3 (convolution k fills the pixels of phase k // 2, k % 2), decoder.mask_up1 … mask_up4,
decoder.mask.conv. Glorot uniform, zero bias; depth to space in "dcr" order.
"""

from dataclasses import dataclass, field

from warploom.errors import ArgumentError
from warploom.ground.arrays import positive
from warploom.layers import (
    Add,
    Concat,
    Conv2d,
    DepthToSpace,
    Flatten,
    Identity,
    Layer,
    LeakyReLU,
    Linear,
    Reshape,
    RMSNorm,
    Sigmoid,
)
from warploom.model import Model
from warploom.models.objective import Objective, Part, Preset
from warploom.models.registry import network
from warploom.network.graph import Input, Tensor

_SLOPE, _RESIDUAL_SLOPE = 0.1, 0.2


@dataclass
class _Parts:
    """The layers by name: called again, a part uses those it has."""

    layers: dict[str, Layer] = field(default_factory=dict)

    def keep(self, layer: Layer) -> Layer:
        return self.layers.setdefault(str(layer.name), layer)

    def conv(self, x: Tensor, channels: int, kernel: int, name: str, stride: int = 1, slope: float | None = _SLOPE) -> Tensor:
        layer = Conv2d(channels, kernel, stride=stride, padding=(kernel - 1) // 2, init="glorot_uniform", name=name)
        h = self.keep(layer)(x)
        return h if slope is None else self.keep(LeakyReLU(slope, name=f"{name}.act"))(h)

    def up(self, x: Tensor, channels: int, name: str) -> Tensor:
        """A convolution to 4 times the channels, which become a map of twice the size."""
        return self.keep(DepthToSpace(2, "dcr", name=f"{name}.d2s"))(self.conv(x, 4 * channels, 3, name))

    def residual(self, x: Tensor, name: str) -> Tensor:
        h = self.conv(x, x.shape[0], 3, f"{name}.conv1", slope=_RESIDUAL_SLOPE)
        h = self.keep(Add(name=f"{name}.add"))(x, self.conv(h, x.shape[0], 3, f"{name}.conv2", slope=None))
        return self.keep(LeakyReLU(_RESIDUAL_SLOPE, name=f"{name}.act"))(h)

    def encoder(self, x: Tensor, dims: int) -> Tensor:
        for i in range(4):
            x = self.conv(x, dims << i, 5, f"encoder.conv{i + 1}", stride=2)
        return x

    def inter(self, x: Tensor, dims: int, name: str) -> Tensor:
        channels, height, width = 2 * dims, x.shape[1] // 2, x.shape[2] // 2
        h = self.keep(RMSNorm(1e-6, name=f"{name}.fc1.norm"))(self.keep(Flatten(name=f"{name}.fc1.flatten"))(x))
        for i, features in enumerate((dims, channels * height * width), start=1):
            h = self.keep(Linear(features, init="glorot_uniform", name=f"{name}.fc{i}"))(h)
        h = self.keep(Reshape((channels, height, width), name=f"{name}.fc2.reshape"))(h)
        return self.up(h, channels, f"{name}.conv")

    def decoder(self, codes: list[Tensor], dims: int, mask_dims: int, person: str) -> list[Tensor]:
        """The image, and with mask_dims the mask."""
        both = h = self.keep(Concat(name="decoder.codes"))(codes)
        for i, scale in enumerate((8, 4, 2), start=1):
            h = self.residual(self.up(h, scale * dims, f"decoder.up{i}"), f"decoder.res{i}")
        phases = [self.conv(h, 3, 3, f"decoder.image.conv{k}", slope=None) for k in range(4)]
        h = self.keep(DepthToSpace(2, "dcr", name="decoder.image.d2s"))(self.keep(Concat(name="decoder.image.phases"))(phases))
        outputs = [Identity(name=f"{person}_image")(self.keep(Sigmoid(name="decoder.image.sigmoid"))(h))]
        if mask_dims:
            h = both
            for i, scale in enumerate((8, 4, 2, 1), start=1):
                h = self.up(h, scale * mask_dims, f"decoder.mask_up{i}")
            h = self.keep(Sigmoid(name="decoder.mask.sigmoid"))(self.conv(h, 1, 1, "decoder.mask.conv", slope=None))
            outputs.append(Identity(name=f"{person}_mask")(h))
        return outputs


def objective(size: int = 256, mask: bool = True) -> Objective:
    """Per person DSSIM in two windows and MSE, all within the weight of the face, and MSE of the mask; AdaBelief."""
    if size >= 256:
        windows: tuple[tuple[int, float], ...] = ((22, 5.0), (11, 5.0))
    else:
        windows = ((max(1, int(size / 11.6)), 10.0),)
    losses: list[Part] = []
    for number, person in enumerate(("src", "dst")):
        output = number * (2 if mask else 1)
        face = {"output": output, "mask": f"{person}_weight"}
        losses += [("DSSIM", {"window": window, "weight": weight, **face}) for window, weight in windows]
        losses.append(("MSE", {"weight": 10.0, **face}))
        if mask:
            losses.append(("MSE", {"weight": 10.0, "output": output + 1}))
    kinds = ("image", "mask") if mask else ("image",)
    return Objective(
        losses=tuple(losses),
        optimizer=("AdaBelief", {"lr": 5e-5, "betas": (0.9, 0.999), "eps": 1e-6, "bias_correction": False}),
        batch_size=4,
        epochs=100,
        data="faces",
        options={"clip_norm": 1.0, "lr_keep": 0.3},
        targets=(*(f"{person}_{kind}" for person in ("src", "dst") for kind in kinds), "src_weight", "dst_weight"),
    )


QUICK = Preset(
    "96x96, a narrower network, Adam and a rate that ends at 0",
    {
        "optimizer": ("Adam", {"lr": 1e-3, "clip_norm": 1.0}),
        "schedule": ("CosineLR", {"warmup": 0.05, "per": "step"}),
        "epochs": 4,
    },
    {"size": 96, "ae_dims": 64, "e_dims": 24, "d_dims": 24, "d_mask_dims": 8},
)


@network(objective, quick=QUICK)
def liae_ud(
    size: int = 256,
    mask: bool = True,
    inters: int = 2,
    ae_dims: int = 256,
    e_dims: int = 64,
    d_dims: int = 64,
    d_mask_dims: int = 22,
    warp: bool = True,
) -> Model:
    """The training network: images src and dst, 3x256x256 each -> src_image, src_mask, dst_image, dst_mask.

    145,343,339 parameters. mask=False leaves the masks out (138,122,124); inters=1 as well makes every code with the one inter
    (86,706,828). warp=False is for the last stretch of a training, on images that are not warped: inter AB is frozen then, and
    each person's own details go into the other parts. See liae_swap for the network that a trained one is used as.
    """
    if positive(size, "liae_ud: size") % 32:
        raise ArgumentError(f"liae_ud: size must be a multiple of 32, not {size}")
    if inters not in (1, 2):
        raise ArgumentError(f"liae_ud: inters must be 1 or 2, not {inters!r}")
    dims = [positive(v, f"liae_ud: {n}") for n, v in (("ae_dims", ae_dims), ("e_dims", e_dims), ("d_dims", d_dims))]
    mask_dims = positive(d_mask_dims, "liae_ud: d_mask_dims") if mask else 0
    parts = _Parts()
    second = "inter_b" if inters == 2 else "inter_ab"
    inputs = [Input((3, size, size), name=person) for person in ("src", "dst")]
    src, dst = (parts.encoder(x, dims[1]) for x in inputs)
    ab = parts.inter(src, dims[0], "inter_ab")
    b, ab_of_dst = parts.inter(dst, dims[0], second), parts.inter(dst, dims[0], "inter_ab")
    outputs = [
        *parts.decoder([ab, ab], dims[2], mask_dims, "src"),
        *parts.decoder([b, ab_of_dst], dims[2], mask_dims, "dst"),
    ]
    for name, layer in parts.layers.items():
        layer.trainable = warp or not name.startswith("inter_ab.")
    return Model(inputs, outputs, name="liae_ud")


def liae_swap(model: Model) -> Model:
    """dst -> swap_image (and swap_mask): the second person's expression on the first one's face; shares the model's layers."""
    layers = {str(layer.name): layer for layer in model.layers}
    if "inter_ab.fc1" not in layers or "decoder.up1" not in layers:
        raise ArgumentError(f"liae_swap takes a model made by liae_ud, not {model.name!r}")
    parts = _Parts(layers)
    image = Input(model.inputs[-1].shape, name="dst")
    widths = {name: _weight_shape(layers[name]) for name in ("encoder.conv1", "inter_ab.fc1", "decoder.up1")}
    mask = "decoder.mask.conv" in layers
    mask_dims = _weight_shape(layers["decoder.mask.conv"])[1] if mask else 0
    code = parts.inter(parts.encoder(image, widths["encoder.conv1"][0]), widths["inter_ab.fc1"][0], "inter_ab")
    outputs = parts.decoder([code, code], widths["decoder.up1"][0] // 32, mask_dims, "swap")
    return Model(image, outputs, name=f"{model.name}-swap")


def _weight_shape(layer: Layer) -> tuple[int, ...]:
    return layer.parameters["weight"].spec.shape
