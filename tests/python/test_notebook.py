"""In a Jupyter kernel: training shows one output that is written over, text without codes, and can be interrupted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("ipykernel", reason="ipykernel is not installed")
manager = pytest.importorskip("jupyter_client.manager")

_SECONDS = 120.0  # for any one message: the machine may be busy
BEGIN = """
import numpy as np
import warploom as wl
x = wl.Input((3, 16, 16))
h = wl.layers.Latent()(wl.layers.Conv2d(8, 3, padding=1)(x))
model = wl.Model(x, wl.layers.Conv2d(3, 3, padding=1)(h), name="small")
model.compile("sgd", device="cpu", batch_size=4)
images = np.random.default_rng(0).integers(0, 256, (400, 3, 16, 16), dtype=np.uint8)
wl.train.progress._NOTEBOOK_SECONDS = 0.0
"""

Message = tuple[str, dict[str, Any]]  # its kind and content


class Notebook:
    def __init__(self, kernel: Any, client: Any) -> None:
        self.kernel, self.client = kernel, client

    def run(self, code: str) -> Iterator[Message]:
        """What the kernel says of a cell, as it comes."""
        cell = self.client.execute(code)
        while True:
            message = self.client.get_iopub_msg(timeout=_SECONDS)
            if message["parent_header"].get("msg_id") != cell:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                return
            if kind not in ("status", "execute_input"):
                yield kind, content

    def said(self, code: str) -> list[Message]:
        said = list(self.run(code))
        assert not [content for kind, content in said if kind == "error"]
        return said


@pytest.fixture(scope="module")
def notebook() -> Iterator[Notebook]:
    kernel, client = manager.start_new_kernel(startup_timeout=_SECONDS, env=dict(os.environ))
    try:
        found = Notebook(kernel, client)
        found.said(BEGIN)
        yield found
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


def shown(said: list[Message]) -> list[str]:
    """The states of the one output that the cell shows."""
    displays = [(kind, content) for kind, content in said if "display_data" in kind]
    assert [kind for kind, _ in displays] == ["display_data", *["update_display_data"] * (len(displays) - 1)]
    assert len({content["transient"]["display_id"] for _, content in displays}) == 1
    return [content["data"]["text/plain"] for _, content in displays]


def test_training_is_one_output(notebook: Notebook) -> None:
    said = notebook.said("history = model.fit(images, epochs=2, validation_data=images[:20])")
    assert {kind for kind, _ in said} == {"display_data", "update_display_data"}
    states = shown(said)
    assert len(states) > 10
    assert all(len(state.splitlines()) <= 3 for state in states)
    assert not any(code in state for state in states for code in "\x1b\r")
    last = states[-1].splitlines()
    assert [line[:9] for line in last] == ["epoch 1/2", "epoch 2/2"]  # they stay


def test_what_prints_itself_has_no_codes(notebook: Notebook) -> None:
    for code in ("model.summary()", "model.trace(images[:4])"):
        said = notebook.said(code)
        assert {(kind, content["name"]) for kind, content in said} == {("stream", "stdout")}
        text = "".join(content["text"] for _, content in said)
        assert text.count("conv2d_1 ") == 1
        assert "\x1b" not in text


def test_short_epochs_do_not_flood_the_notebook(notebook: Notebook) -> None:
    """Of a flood that nobody reads messages are lost, a cell's error and its end among them."""
    notebook.said("wl.train.progress._NOTEBOOK_SECONDS = 1e6")
    try:
        states = shown(notebook.said("_ = model.fit(images[:8], epochs=200)"))
    finally:
        notebook.said("wl.train.progress._NOTEBOOK_SECONDS = 0.0")
    assert len(states) == 2  # the begin and the end
    assert len(states[-1].splitlines()) == 200


def test_an_interrupted_training_says_how_far_it_came(notebook: Notebook) -> None:
    notebook.said("wl.train.progress._NOTEBOOK_SECONDS = 0.05")  # this test may be slower to read than the kernel to write
    said = []
    for message in notebook.run("model.fit(images, epochs=100_000)"):
        said.append(message)
        if len(said) == 5:
            notebook.kernel.interrupt_kernel()
    ((_, error),) = [m for m in said if m[0] == "error"]
    assert error["ename"] == "KeyboardInterrupt"
    assert "stopped in epoch " in shown(said)[-1].splitlines()[-1]
    ((_, result),) = notebook.said("bool(np.isfinite(model.predict(images[:4])).all())")
    assert result["data"]["text/plain"] == "True"
    assert len(shown(notebook.said("_ = model.fit(images, epochs=1)"))[-1].splitlines()) == 1
