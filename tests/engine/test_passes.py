"""The passes over graphs, each by the steps that it leaves in a plan and by the numbers, which must not change."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from graph_oracle import Network
from numpy.typing import NDArray

Array = NDArray[Any]
CPU, V1, V3, V4 = ("cpu", "cpu"), ("emulated", "v1"), ("emulated", "v3"), ("emulated", "v4")


class Chain:
    """Layers one after the other, in a graph of the core."""

    def __init__(self, core: Any, shape: tuple[int, ...]) -> None:
        self.graph = core.Graph("chain")
        self.value = self.graph.input("x", shape)
        self.count = 0

    def __call__(self, op: str, *shapes: tuple[int, ...], inputs: tuple[int, ...] = (), **attributes: Any) -> int:
        parameters = []
        for i, shape in enumerate(shapes):
            name, norm = f"n{self.count}.{i}", op == "batch_norm"
            start = "ones" if norm and i in (0, 3) else "uniform_fan_in"
            parameters.append(self.graph.parameter(name, shape, init=start, fan_in=9, buffer=norm and i > 1))
        made = self.graph.node(op, f"n{self.count}", list(inputs) or [self.value], parameters, attributes)
        self.count += 1
        self.value = made[0]
        return self.value

    def conv(self, c_in: int, c_out: int, kernel: int = 3, **attributes: Any) -> int:
        return self("conv2d", (c_out, c_in, kernel, kernel), (c_out,), **{"padding": [kernel // 2] * 4, **attributes})

    def norm(self, channels: int) -> int:
        return self("batch_norm", *[(channels,)] * 4, momentum=0.1, eps=1e-3)

    def session(self, core: Any, place: tuple[str, str], outputs: list[int] | None = None) -> Any:
        if place[0] != "cpu" and os.environ.get("WARPLOOM_SANITIZED"):
            pytest.skip("a sanitized build holds the cpu kernels alone")
        self.graph.set_outputs(outputs or [self.value])
        return core.Session(self.graph, *place, losses=[{"kind": "mse"}], optimizer={"kind": "sgd"}, seed=3)


def entries(session: Any, batch: int = 2, training: bool = False) -> list[str]:
    return [str(step["entry"]) for step in session.explain(batch, training)]


def check_numbers(session: Any, graph: Any, batch: int = 2, training: bool = True) -> None:
    description = graph.describe()
    rng = np.random.default_rng(1)
    for p in description["parameters"]:  # running statistics that are not those of the batch
        if p["buffer"]:
            session.set_parameter(p["name"], rng.uniform(0.5, 1.5, p["shape"]).astype(np.float32))
    network = Network(description, {p["name"]: session.get_parameter(p["name"]) for p in description["parameters"]})
    x, y = (rng.standard_normal((batch, *graph.shape(description[k][0]))).astype(np.float32) for k in ("inputs", "outputs"))
    np.testing.assert_allclose(session.predict([x])[0], network.predict([x])[0], rtol=2e-4, atol=2e-5)
    if training:
        loss, expected = network.gradients([x], [y])
        got = session.gradients([x], [y])
        assert abs(session.loss() / loss - 1) < 1e-5
        for name, value in got.items():
            np.testing.assert_allclose(value, expected[name], rtol=5e-3, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("place", [CPU, V1, V3, V4])
def test_batch_norm_folds_into_a_convolution_at_inference(core: Any, place: tuple[str, str]) -> None:
    chain = Chain(core, (3, 6, 5))
    chain.conv(3, 8)
    chain.norm(8)
    chain("activation", kind="relu")
    session = chain.session(core, place)
    inference, training = entries(session), entries(session, training=True)
    assert "batch_norm_forward" not in inference
    assert inference[:2] == ["batch_norm_fold", "conv2d_forward"]
    assert "batch_norm_fold" not in training
    assert training.count("batch_norm_forward") == 1
    check_numbers(session, chain.graph)


@pytest.mark.parametrize("place", [CPU, V3])
def test_batch_norm_folds_into_a_transposed_convolution(core: Any, place: tuple[str, str]) -> None:
    chain = Chain(core, (4, 3, 5))
    chain("conv_transpose2d", (4, 6, 4, 4), stride=[2, 2], padding=[1, 1])
    chain.norm(6)
    chain("activation", kind="leaky_relu", negative_slope=0.2)
    session = chain.session(core, place)
    assert "batch_norm_forward" not in entries(session)
    check_numbers(session, chain.graph)


def test_a_norm_does_not_fold_where_the_convolution_is_wanted_too(core: Any) -> None:
    chain = Chain(core, (3, 4, 4))
    conv = chain.conv(3, 4)
    norm = chain.norm(4)
    session = chain.session(core, CPU, [norm, conv])
    assert "batch_norm_forward" in entries(session)


@pytest.mark.parametrize("place", [CPU, V1, V3])
def test_an_activation_joins_the_norm_before_it(core: Any, place: tuple[str, str]) -> None:
    chain = Chain(core, (3, 4, 6))
    chain.conv(3, 4)
    chain.norm(4)
    chain("activation", kind="leaky_relu", negative_slope=0.3)
    chain.conv(4, 2)
    session = chain.session(core, place)
    steps = entries(session, training=True)
    assert "activation_forward" not in steps
    assert "activation_backward" not in steps
    check_numbers(session, chain.graph)


@pytest.mark.parametrize("place", [V1, V3, V4])
def test_an_upsample_becomes_four_small_convolutions(core: Any, place: tuple[str, str]) -> None:
    chain = Chain(core, (5, 4, 3))
    chain("upsample", scale=[2, 2], mode="nearest")
    chain.conv(5, 6)
    chain("activation", kind="leaky_relu", negative_slope=0.3)
    session = chain.session(core, place)
    steps = entries(session, training=True)
    assert "upsample_forward" not in steps
    assert steps.count("conv2d_forward") == 4
    assert steps.count("upsample_weights") == 2  # for the forward pass; back, to the gradient of the 3x3 weights
    check_numbers(session, chain.graph)


def test_what_the_upsample_fold_leaves_alone(core: Any) -> None:
    for kernel, mode, more in ((5, "nearest", {}), (3, "bilinear", {}), (3, "nearest", {"stride": [2, 2]})):
        chain = Chain(core, (2, 4, 4))
        chain("upsample", scale=[2, 2], mode=mode)
        chain.conv(2, 3, kernel, **more)
        session = chain.session(core, V3)
        assert "upsample_forward" in entries(session)
        check_numbers(session, chain.graph)


def test_fp32_exact_folds_nothing_that_adds_before_it_multiplies(core: Any) -> None:
    chain = Chain(core, (16, 8, 8))
    chain("upsample", scale=[2, 2], mode="nearest")
    chain.conv(16, 16)
    chain.conv(16, 16)
    chain.graph.set_outputs([chain.value])
    for place in (CPU, V3):
        session = core.Session(chain.graph, *place, precision="fp32-exact")
        steps = session.explain(2, False)
        assert "upsample_weights" not in {s["entry"] for s in steps}
        assert not {s["algorithm"] for s in steps} & {"winograd4", "winograd2", "upsample9", "upsample25", "upsample81"}
    with pytest.raises(core.UnsupportedError, match="float32"):
        core.Session(chain.graph, *CPU, precision="bf16").explain(2, False)


@pytest.mark.parametrize("place", [CPU, V1, V3])
def test_a_concatenation_of_one_row_copies_nothing(core: Any, place: tuple[str, str]) -> None:
    """A batch of one in NCHW, vectors everywhere: the parts are made where the whole will be."""
    chain = Chain(core, (2, 8, 8))
    x = chain.value
    left = chain.conv(2, 4)
    right = chain("conv2d", (8, 2, 3, 3), (8,), inputs=(x,), padding=[1, 1, 1, 1])
    chain("concat", inputs=(left, right))
    chain.conv(12, 3)
    session = chain.session(core, place)
    planar = place[1] == "v3"
    assert ("concat_forward" in entries(session, 1, training=True)) == (not planar)
    assert "concat_forward" in entries(session, 2, training=True)
    check_numbers(session, chain.graph, batch=1)


def test_a_concatenation_of_an_input_or_of_one_value_twice_is_copied(core: Any) -> None:
    chain = Chain(core, (4, 8, 8))
    x = chain.value
    y = chain.conv(4, 4)
    chain("concat", inputs=(y, x, y))
    session = chain.session(core, V3)
    assert "concat_forward" in entries(session, 1)
    check_numbers(session, chain.graph, batch=1, training=False)


def test_what_joins_a_concatenation_may_have_other_readers(core: Any) -> None:
    """An activation in place on a part would change the whole."""
    chain = Chain(core, (2, 8, 8))
    a = chain.conv(2, 4)
    b = chain("conv2d", (4, 4, 1, 1), (4,), inputs=(a,))
    whole = chain("concat", inputs=(a, b))
    chain("activation", inputs=(a,), kind="sigmoid")
    side = chain.conv(4, 8, 1)
    chain("activation", inputs=(whole,), kind="sigmoid")
    chain("add", inputs=(chain.value, side))
    session = chain.session(core, V3)
    assert "concat_forward" not in entries(session, 1, training=True)
    check_numbers(session, chain.graph, batch=1)
