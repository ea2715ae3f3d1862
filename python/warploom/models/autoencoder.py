"""A convolutional autoencoder to begin with: depth, widths, latent and layers as you ask for them."""

from collections.abc import Callable, Sequence

from warploom.errors import ArgumentError
from warploom.ground.arrays import number, pair, positive
from warploom.layers import (
    ELU,
    GELU,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout2d,
    Flatten,
    GroupNorm,
    Latent,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Reshape,
    Sampling,
    Sigmoid,
    SiLU,
    Tanh,
    Upsample,
)
from warploom.model import Model
from warploom.models.blocks import size_pair
from warploom.models.objective import Objective
from warploom.models.registry import network
from warploom.network.graph import Input, Layer, Tensor

ACTIVATIONS: dict[str, Callable[..., Layer]] = {
    "relu": ReLU, "leaky_relu": LeakyReLU, "gelu": GELU, "silu": SiLU, "elu": ELU, "tanh": Tanh,
}  # fmt: skip
OUTPUTS: dict[str, Callable[..., Layer] | None] = {"linear": None, "sigmoid": Sigmoid, "tanh": Tanh}
NORMS = ("none", "batch", "group")
DOWN = ("max_pool", "stride")
UP = ("nearest", "bilinear", "transposed")


def objective() -> Objective:
    """Mean squared error; Adam, a short warmup, and a rate that ends at 0."""
    return Objective(
        losses=(("MSE", {}),),
        optimizer=("Adam", {"lr": 1e-3, "betas": (0.9, 0.99), "clip_norm": 1.0}),
        batch_size=16,
        epochs=5,
        data="images",
        schedule=("CosineLR", {"warmup": 0.05, "per": "step"}),
    )


class _Stages:
    """The layers that all stages share."""

    def __init__(self, activation: str, norm: str, dropout: float) -> None:
        self.activation, self.norm, self.dropout = ACTIVATIONS[activation], norm, dropout

    def conv(self, h: Tensor, channels: int, name: str) -> Tensor:
        return self.after(Conv2d(channels, 3, padding=1, bias=self.norm == "none", name=f"{name}.conv")(h), name)

    def after(self, h: Tensor, name: str) -> Tensor:
        """Norm, activation and dropout, those that there are."""
        if self.norm == "batch":
            h = BatchNorm2d(name=f"{name}.norm")(h)
        elif self.norm == "group":
            channels = h.shape[0]
            groups = next(g for g in (8, 4, 2, 1) if channels % g == 0)
            h = GroupNorm(groups, name=f"{name}.norm")(h)
        h = self.activation(name=f"{name}.act")(h)
        return Dropout2d(self.dropout, name=f"{name}.dropout")(h) if self.dropout else h


@network(objective)
def autoencoder(
    size: int | tuple[int, int] = 32,
    in_channels: int = 3,
    widths: int | Sequence[int] = (64, 128),
    convs: int = 1,
    latent_channels: int | None = None,
    latent_size: int | None = None,
    activation: str = "relu",
    norm: str = "none",
    dropout: float = 0.0,
    down: str = "max_pool",
    up: str = "nearest",
    output: str = "linear",
    variational: bool = False,
    beta: float = 1.0,
) -> Model:
    """in_channels x size -> latent -> in_channels x size, for images of any size and channels.

    size: (height, width) or one number for both, multiples of 2 to the number of widths. widths: channels of the stages,
    outermost first; each halves the image on the way in and doubles it on the way out; one number is one stage. convs: 3x3
    convolutions in a stage.

    The latent is a map of the last stage's size with latent_channels channels (default: as many as the last stage has), or with
    latent_size=N a vector of N numbers, made by a dense layer. activation: relu, leaky_relu, gelu, silu, elu or tanh. norm: none,
    batch or group (8 groups, or 4, 2, 1 where channels are no multiple). dropout: of whole maps, the probability; 0: none.
    down: max_pool, or stride (the stage's last convolution halves). up: nearest, bilinear, or transposed convolutions. output:
    linear, sigmoid (pixels in [0, 1]) or tanh.

    variational: a variational autoencoder: in training the latent is drawn around what the encoder gives, and any loss grows by
    beta times the KL divergence of its distribution from the standard normal one, divided by the numbers in an image: the
    proportion of a squared error that is summed over an image to beta times the divergence. models.sample() draws new images.
    Sources: https://arxiv.org/abs/1312.6114, and for beta https://openreview.net/forum?id=Sy2fzU9gl.

    Layers are named enc1.conv1.conv, enc1.conv1.act, enc1.pool, ..., latent, ..., dec1.up, dec1.conv1.conv, ..., output.
    """
    this = "autoencoder"
    channels = [widths] if isinstance(widths, int) else list(widths)
    if not channels:
        raise ArgumentError(f"{this}: widths is empty; expected the channels of one stage or more, such as (64, 128)")
    for width in channels:
        positive(width, f"{this}: a width")
    positive(convs, f"{this}: convs")
    for what, chosen, known in (
        ("activation", activation, ACTIVATIONS), ("norm", norm, NORMS), ("down", down, DOWN), ("up", up, UP),
        ("output", output, OUTPUTS),
    ):  # fmt: skip
        if chosen not in known:
            raise ArgumentError(f"{this}: unknown {what} {chosen!r}; expected one of {', '.join(known)}")
    if latent_channels is not None and latent_size is not None:
        raise ArgumentError(f"{this}: the latent is a map of latent_channels or a vector of latent_size numbers, not both")
    number(dropout, f"{this}: dropout", 0.0)
    number(beta, f"{this}: beta", 0.0)
    if beta != 1.0 and not variational:
        raise ArgumentError(f"{this}: beta weighs the divergence of a variational autoencoder: add variational=True")
    depth, stages = len(channels), _Stages(activation, norm, dropout)
    height, width = size_pair(pair(size, f"{this}: size"), 2**depth, this)

    x = h = Input((positive(in_channels, f"{this}: in_channels"), height, width), name="image")
    for stage, wide in enumerate(channels, start=1):
        for i in range(1, convs + 1):
            name = f"enc{stage}.conv{i}"
            if down == "stride" and i == convs:
                h = stages.after(Conv2d(wide, 3, stride=2, padding=1, bias=norm == "none", name=f"{name}.conv")(h), name)
            else:
                h = stages.conv(h, wide, name)
        if down == "max_pool":
            h = MaxPool2d(2, name=f"enc{stage}.pool")(h)
    draw = Sampling(beta / (in_channels * height * width), name="sampling") if variational else None
    h = _latent(h, latent_channels, latent_size, draw)
    for stage in range(depth, 0, -1):
        wide = channels[max(stage - 2, 0)]
        name = f"dec{stage}"
        if up == "transposed":
            h = ConvTranspose2d(wide, 4, stride=2, padding=1, bias=norm == "none", name=f"{name}.up.conv")(h)
            h = stages.after(h, f"{name}.up")
        else:
            h = Upsample(2, up, name=f"{name}.up")(h)
        for i in range(1, convs + 1):
            h = stages.conv(h, wide, f"{name}.conv{i}")
    y = Conv2d(in_channels, 3, padding=1, gain=0.1, name="output.conv")(h)  # outputs begin small: a first picture is no noise
    last = OUTPUTS[output]
    return Model(x, last(name="output.act")(y) if last else y, name=this)


def _latent(h: Tensor, latent_channels: int | None, latent_size: int | None, draw: Sampling | None) -> Tensor:
    """draw: of means and as many logarithms of variances."""
    times = 1 if draw is None else 2
    if latent_size is not None:
        shape = h.shape
        code = Linear(times * positive(latent_size, "autoencoder: latent_size"), name="to_latent")(Flatten(name="flat")(h))
        code = Latent(name="latent")(draw(code) if draw else code)
        wide = shape[0] * shape[1] * shape[2]
        return Reshape(shape, name="map")(ReLU(name="from_latent.act")(Linear(wide, name="from_latent")(code)))
    if draw is not None and latent_channels is None:
        latent_channels = h.shape[0]
    if latent_channels is not None:
        h = Conv2d(times * positive(latent_channels, "autoencoder: latent_channels"), 1, name="to_latent")(h)
    return Latent(name="latent")(draw(h) if draw else h)
