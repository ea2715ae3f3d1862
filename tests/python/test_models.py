"""The model zoo against the specification's tables: totals, and every layer's shape and parameter count."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from warploom import models
from warploom.inspection.summary import Summary

ROOT = Path(__file__).resolve().parents[2]
TOTALS: list[tuple[str, dict[str, Any], int]] = [
    ("autoencoder", {}, 188_099),
    ("cifar10_autoencoder", {}, 751_875),
    ("liae_ud", {}, 145_343_339),
    ("liae_ud", {"mask": False}, 138_122_124),
    ("liae_ud", {"mask": False, "inters": 1}, 86_706_828),
    ("unet_small", {}, 63_972),
    ("unet_large", {}, 290_188),
    ("unet_large", {"in_channels": 48}, 293_068),
    ("gray_autoencoder", {}, 1_838_913),
    ("gray_autoencoder", {"skips": True}, 2_495_297),
    ("gray_autoencoder", {"residual": True}, 5_087_041),
    ("gray_autoencoder", {"skips": True, "residual": True}, 10_390_081),
    ("gray_autoencoder", {"groups": 2}, 921_409),
    ("dsresnet", {}, 10_343_490),
]


@pytest.mark.parametrize(
    ("name", "arguments", "total"), TOTALS, ids=lambda v: "-".join(map(str, v)) if isinstance(v, dict) else str(v)
)
def test_totals(name: str, arguments: dict[str, Any], total: int) -> None:
    model = models.get(name, **arguments)
    assert model.count_parameters() == total
    rows = Summary(model).rows
    assert sum(row.parameters for row in rows if not row.shared) == total


def test_every_network_is_in_the_tables_with_its_total() -> None:
    totals = {name: f"{total:,}" for name, arguments, total in TOTALS if not arguments}
    assert totals.keys() == models.BY_NAME.keys(), "TOTALS has every network with what stands in its signature"
    for page in ("README.md", "docs/models.md"):
        rows = [line for line in (ROOT / page).read_text().splitlines() if line.startswith("| `")]
        for name, total in totals.items():
            assert any(f"`{name}`" in row and total in row for row in rows), f"{page}: a row with `{name}` and {total} parameters"


# Every row of the specification's tables: what is counted (layers whose names start so), the shape it ends in, parameters.
TABLES: dict[str, list[tuple[str, tuple[int, ...], int]]] = {
    "cifar10_autoencoder": [
        ("conv1", (256, 32, 32), 7_168), ("pool1", (256, 16, 16), 0), ("conv2", (128, 16, 16), 295_040),
        ("pool2", (128, 8, 8), 0), ("conv3", (128, 8, 8), 147_584), ("up1", (128, 16, 16), 0),
        ("conv4", (256, 16, 16), 295_168), ("up2", (256, 32, 32), 0), ("conv5", (3, 32, 32), 6_915),
    ],
    "liae_ud": [
        ("encoder.conv1", (64, 128, 128), 4_864), ("encoder.conv2", (128, 64, 64), 204_928),
        ("encoder.conv3", (256, 32, 32), 819_456), ("encoder.conv4", (512, 16, 16), 3_277_312),
        *[row for inter in ("inter_ab", "inter_b") for row in (
            (f"{inter}.fc1.flatten", (131_072,), 0), (f"{inter}.fc1.norm", (131_072,), 0), (f"{inter}.fc1", (256,), 33_554_688),
            (f"{inter}.fc2", (512, 8, 8), 8_421_376), (f"{inter}.conv", (512, 16, 16), 9_439_232),
            (inter, (512, 16, 16), 51_415_296),
        )],
        ("encoder", (512, 16, 16), 4_306_560), ("decoder.codes", (1024, 16, 16), 0),
        ("decoder.up1", (512, 32, 32), 18_876_416), ("decoder.res1", (512, 32, 32), 2 * 2_359_808),
        ("decoder.up2", (256, 64, 64), 4_719_616), ("decoder.res2", (256, 64, 64), 2 * 590_080),
        ("decoder.up3", (128, 128, 128), 1_180_160), ("decoder.res3", (128, 128, 128), 2 * 147_584),
        ("decoder.image", (3, 256, 256), 13_836), ("decoder.mask_up1", (176, 32, 32), 6_488_768),
        ("decoder.mask_up2", (88, 64, 64), 557_920), ("decoder.mask_up3", (44, 128, 128), 139_568),
        ("decoder.mask_up4", (22, 256, 256), 34_936), ("decoder.mask", (1, 256, 256), 23),
    ],
    "unet_small": [
        ("enc1", (4, 128, 128), 112 + 8), ("enc2", (8, 64, 64), 296 + 16), ("enc3", (32, 32, 32), 2_336 + 64),
        ("bneck", (64, 16, 16), 18_496 + 128), ("upconv3", (32, 32, 32), 18_464), ("dec3", (32, 32, 32), 18_464 + 64),
        ("upconv2", (8, 64, 64), 2_312), ("dec2", (8, 64, 64), 1_160 + 16), ("upconv1", (4, 128, 128), 292),
        ("dec1", (16, 128, 128), 1_168 + 32), ("conv", (32, 128, 128), 544),
    ],
    "unet_large": [
        ("prep0", (64, 88, 88), 256 + 128), ("prep1", (64, 88, 88), 4_160 + 128), ("prep2", (32, 88, 88), 2_080 + 64),
        ("enc1", (8, 88, 88), 2_312 + 16), ("enc2", (28, 44, 44), 2_044 + 56), ("enc3", (56, 22, 22), 14_168 + 112),
        ("bneck", (112, 11, 11), 56_560 + 224), ("upconv3", (56, 22, 22), 56_504), ("dec3", (56, 22, 22), 56_504 + 112),
        ("upconv2", (28, 44, 44), 14_140), ("dec2", (28, 44, 44), 14_140 + 56), ("upconv1", (8, 88, 88), 2_024),
        ("dec1", (48, 88, 88), 6_960 + 96), ("dec0", (64, 88, 88), 27_712 + 128), ("conv_p1", (64, 88, 88), 4_160 + 128),
        ("conv_p2", (64, 88, 88), 4_160 + 128), ("conv_p3", (64, 88, 88), 4_160 + 128), ("conv", (256, 88, 88), 16_640),
    ],
    "gray_autoencoder": [
        ("enc1", (64, 128, 128), 1_024 + 128), ("enc2", (128, 64, 64), 131_072 + 256), ("enc3", (256, 32, 32), 524_288 + 512),
        ("enc4", (64, 16, 16), 262_208), ("dec1", (256, 32, 32), 262_144 + 512), ("dec2", (128, 64, 64), 524_288 + 256),
        ("dec3", (64, 128, 128), 131_072 + 128), ("dec4", (1, 256, 256), 1_025),
    ],
    "dsresnet": [
        *[row for image in ("bg", "bg_fg") for row in (
            (f"{image}.enc1", (16, 224, 224), 2_896), (f"{image}.enc2", (32, 112, 112), 14_560))],
        ("common.join", (32, 56, 56), 2_080), ("common.enc1", (64, 56, 56), 57_792), ("common.enc2", (128, 28, 28), 230_272),
        ("common.enc3", (256, 14, 14), 919_296), ("common.enc4", (512, 7, 7), 3_673_600),
        *[row for task in ("depth", "mask") for row in (
            (f"{task}.dec5", (256, 14, 14), 2_033_664), (f"{task}.dec4", (128, 28, 28), 508_928),
            (f"{task}.dec3", (64, 56, 56), 127_488), (f"{task}.dec2", (32, 112, 112), 34_080),
            (f"{task}.dec1", (16, 224, 224), 8_592), (f"{task}.head", (1, 224, 224), 17))],
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_every_row_of_the_tables(name: str) -> None:
    counts: dict[str, int] = defaultdict(int)
    shapes: dict[str, tuple[int, ...]] = {}
    for row in Summary(models.get(name)).rows:
        if "@" in row.name:  # a shared layer's second use
            continue
        parts = row.name.split(".")
        for prefix in (".".join(parts[:n]) for n in range(1, len(parts) + 1)):
            counts[prefix] += row.parameters
            shapes[prefix] = row.output_shape
    for prefix, shape, count in TABLES[name]:
        assert (shapes[prefix], counts[prefix]) == (shape, count), prefix


def test_residual_blocks_and_groups_of_the_gray_autoencoder() -> None:
    rows = {row.name: row for row in Summary(models.gray_autoencoder(skips=True, residual=True)).rows}
    mirrored = {"enc1": 64, "enc2": 128, "enc3": 256, "enc4": 64, "dec1": 64, "dec2": 512, "dec3": 256, "dec4": 128}
    for stage, channels in mirrored.items():
        parts = [row.parameters for name, row in rows.items() if name.startswith(f"{stage}_res.")]
        assert sum(parts) == 18 * channels**2 + 4 * channels, stage
    assert [rows[f"cat{i}"].output_shape for i in (1, 2, 3)] == [(512, 32, 32), (256, 64, 64), (128, 128, 128)]
    fields = [rows[f"enc{i}.conv"].receptive_field for i in range(1, 5)]
    plain = {row.name: row for row in Summary(models.gray_autoencoder()).rows}
    assert [plain[f"enc{i}.conv"].receptive_field for i in range(1, 5)] == [(4, 4), (10, 10), (22, 22), (46, 46)]
    assert all(a is not None for a in fields)
    assert [plain[f"enc{i}.conv"].stride for i in range(1, 5)] == ["2", "4", "8", "16"]


def test_names_are_pytorchs() -> None:
    state = models.unet_small(size=16).state_dict()
    first = [f"enc1.{n}" for n in ("conv.weight", "conv.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")]
    assert list(state)[:6] == first
    assert state["upconv3.weight"].shape == (64, 32, 3, 3)
    state["enc1.bn.num_batches_tracked"] = 7  # PyTorch's batch norms count; nothing here depends on it
    models.unet_small(size=16).load_state_dict(state)


def test_swap_shares_the_layers() -> None:
    small = {"size": 32, "ae_dims": 4, "e_dims": 2, "d_dims": 2, "d_mask_dims": 2}
    model = models.liae_ud(**small)
    frozen = models.liae_ud(**small, warp=False)
    still = [name for layer in frozen.layers for name in [str(layer.name)] if not layer.trainable]
    assert still
    assert all(name.startswith("inter_ab.") for name in still)
    inter_ab = sum(v.size for k, v in frozen.state_dict().items() if k.startswith("inter_ab."))
    assert frozen.count_parameters() - frozen.count_parameters(trainable_only=True) == inter_ab > 0
    swap = models.liae_swap(model)
    assert [t.shape for t in swap.outputs] == [(3, 32, 32), (1, 32, 32)]
    assert {id(layer) for layer in swap.layers if layer.parameters} < {id(layer) for layer in model.layers}
    assert not any(str(layer.name).startswith("inter_b.") for layer in swap.layers)
    assert len(models.liae_swap(models.liae_ud(**small, mask=False)).outputs) == 1
    with pytest.raises(wl.ArgumentError, match="takes a model made by liae_ud"):
        models.liae_swap(models.unet_small(size=16))


def test_objectives() -> None:
    assert tuple(models.BY_NAME) == models.NAMES
    for name in models.NAMES:
        objective = models.objective(name)
        assert objective.data in models.Objective.DATA
        assert objective.optimizer[1]["lr"] > 0
    losses = models.objective("liae_ud").losses
    assert [(kind, options.get("window"), options["weight"]) for kind, options in losses[:4]] == [
        ("DSSIM", 22, 5.0), ("DSSIM", 11, 5.0), ("MSE", None, 10.0), ("MSE", None, 10.0),
    ]  # fmt: skip
    assert models.objective("liae_ud", size=128).losses[0] == (
        "DSSIM", {"window": 11, "weight": 10.0, "output": 0, "mask": "src_weight"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: models.unet_small(size=12), "multiples of 8, not 12x12"),
        (lambda: models.dsresnet(size=(96, 100)), "multiples of 32, not 96x100"),
        (lambda: models.gray_autoencoder(size=40), "multiples of 16"),
        (lambda: models.gray_autoencoder(groups=5), "groups=5 must divide"),
        (lambda: models.liae_ud(size=100), "multiple of 32"),
        (lambda: models.liae_ud(inters=3), "inters must be 1 or 2"),
        (lambda: models.get("vgg"), "unknown model 'vgg'"),
        (lambda: models.objective("vgg"), "unknown model 'vgg'"),
    ],
)
def test_wrong_arguments(call: Any, text: str) -> None:
    with pytest.raises(wl.ArgumentError, match=text):
        call()


@pytest.mark.parametrize("arguments", [
    {}, {"widths": 6, "norm": "batch", "down": "stride", "up": "transposed", "output": "sigmoid"},
    {"widths": (4, 8, 6), "latent_size": 10, "activation": "gelu", "norm": "group", "convs": 2},
    {"widths": [4, 8], "latent_channels": 3, "up": "bilinear", "dropout": 0.2, "in_channels": 2, "activation": "silu"},
])  # fmt: skip
def test_autoencoder_of_ones_own(arguments: dict[str, Any]) -> None:
    """Input and output have one shape, the latent is what was asked for, a file of it loads, and it learns one batch."""
    model = models.autoencoder(size=(16, 24), **arguments)
    channels = arguments.get("in_channels", 3)
    widths = arguments.get("widths", (64, 128))
    depth = 1 if isinstance(widths, int) else len(widths)
    last = widths if isinstance(widths, int) else widths[-1]
    latent = (arguments.get("latent_channels", last), 16 >> depth, 24 >> depth)
    assert model.outputs[0].shape == model.inputs[0].shape == (channels, 16, 24)
    assert model.encoder.outputs[0].shape == ((arguments["latent_size"],) if "latent_size" in arguments else latent)
    assert wl.Model.from_config(model.config()).count_parameters() == model.count_parameters()
    model.compile(wl.optim.Adam(3e-3, clip_norm=1.0), "mse", batch_size=4, seed=1)
    x = np.random.default_rng(0).random((4, channels, 2, 3), dtype=np.float32).repeat(8, 2).repeat(8, 3)  # six patches each
    first = model.train_step(x)["loss"]
    for _ in range(40):
        loss = model.train_step(x)["loss"]
    assert loss < 0.6 * first


@pytest.mark.parametrize(("arguments", "sentence"), [
    ({"size": 30}, "must be multiples of 4, not 30x30"),
    ({"widths": ()}, "widths is empty"),
    ({"widths": (4, 0)}, "a width"),
    ({"norm": "layer"}, "unknown norm 'layer'; expected one of none, batch, group"),
    ({"activation": "swish"}, "unknown activation 'swish'"),
    ({"latent_size": 4, "latent_channels": 4}, "not both"),
    ({"dropout": 1.5}, "Dropout"),
])  # fmt: skip
def test_autoencoder_refuses(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(wl.ArgumentError, match=sentence):
        models.autoencoder(**arguments)
