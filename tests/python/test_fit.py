"""fit() as people use it: batch sizes, a part for validation, early ends, NaN noticed where it happens, and what is seen."""

from __future__ import annotations

import csv
import math
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warploom as wl
from warploom.callbacks import CSVLogger, EarlyStopping, ModelCheckpoint
from warploom.layers import Conv2d, ReLU
from warploom.train import progress
from warploom.train.loop import Progress

IMAGES = np.random.default_rng(0).random((40, 3, 8, 8), np.float32)


def made(lr: float = 0.05, batch_size: int = 4, **options: Any) -> wl.Model:
    x = wl.Input((3, 8, 8))
    model = wl.Model(x, Conv2d(3, 3, padding=1)(ReLU()(Conv2d(6, 3, padding=1)(x))))
    model.compile(wl.optim.SGD(lr, **options), batch_size=batch_size, seed=1, device="cpu")
    return model


# Batches


def test_a_batch_size_of_fit_is_that_of_compile() -> None:
    a, b = made(batch_size=8), made(batch_size=4)
    assert a.fit(IMAGES, epochs=2, verbose=False)["loss"] == b.fit(IMAGES, epochs=2, batch_size=8, verbose=False)["loss"]
    assert a.fit(IMAGES, epochs=1, verbose=False)["loss"] != b.fit(IMAGES, epochs=1, verbose=False)["loss"]
    with pytest.raises(wl.ArgumentError, match="batch_size must be at least 1"):
        a.fit(IMAGES, epochs=1, batch_size=0)


def test_a_batch_larger_than_the_data_is_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    a, b = made(batch_size=64), made(batch_size=5)
    losses = a.fit(IMAGES[:5], epochs=2)["loss"]
    assert "note: batch size 64 is more than the 5 samples" in capsys.readouterr().out
    assert losses == b.fit(IMAGES[:5], epochs=2)["loss"]
    assert "note" not in capsys.readouterr().out


# Validation


def test_validation_split_keeps_the_last_samples() -> None:
    a, b = made(), made()
    split = a.fit(IMAGES, epochs=2, validation_split=0.25, verbose=False)
    whole = b.fit(IMAGES[:30], epochs=2, validation_data=IMAGES[30:], verbose=False)
    assert split["loss"] == whole["loss"]
    assert split["val_loss"] == whole["val_loss"]
    targets = IMAGES[:, ::-1].copy()
    a, b = made(), made()
    split = a.fit(IMAGES, targets, epochs=1, validation_split=0.25, verbose=False)
    assert split["val_loss"] == b.fit(IMAGES[:30], targets[:30], 1, (IMAGES[30:], targets[30:]), verbose=False)["val_loss"]


def test_validation_split_of_rows_computed_on_demand() -> None:
    class Rows(wl.data.Lazy):
        shape, dtype = IMAGES.shape, np.dtype(np.float32)

        def rows(self, indices: np.ndarray) -> np.ndarray:
            return IMAGES[indices] * np.float32(1 + self.epoch)

    scaled = made().fit(Rows(), epochs=1, validation_split=0.25, verbose=False)
    assert scaled["val_loss"] == made().fit(IMAGES, epochs=1, validation_split=0.25, verbose=False)["val_loss"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"validation_split": 1.0}, "leaves none to train on"),
        ({"validation_split": -0.1}, "between 0 and 1"),
        ({"validation_split": 0.2, "validation_data": IMAGES}, "not both"),
    ],
)
def test_validation_splits_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(wl.ArgumentError, match=said):
        made().fit(IMAGES, epochs=1, **options)


# NaN and infinity


def test_nan_is_noticed_inside_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(momentum=0.9)
    model.fit(IMAGES, epochs=1, verbose=False)
    good = model.state_dict()
    seen: list[int] = []

    class Breaks(wl.Callback):
        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            seen.append(batch)
            if batch == 3:
                self.model.optimizer.lr = 1e30

    monkeypatch.setattr("warploom.train.loop._SYNC_SECONDS", 0.0)  # waits for every step
    with pytest.raises(wl.DivergedError) as caught:
        model.fit(IMAGES, epochs=3, start=Progress(epoch=1), callbacks=[Breaks()], verbose=False)
    text = str(caught.value)
    assert re.search(
        r"the loss became (nan|inf) in epoch 2, at step [67] of 10: the weights are back at the end of epoch 1; ", text
    )
    assert "lr=1e+29 instead of 1e+30" in text
    assert "clip_norm=1" in text
    assert max(seen) < 8  # of 10 steps
    assert model.progress.epoch == 1
    assert all(np.array_equal(good[k], v) for k, v in model.state_dict().items())
    # The optimizer's own means hold no NaN either: training goes on.
    model.optimizer.lr = 0.01
    assert math.isfinite(model.fit(IMAGES, epochs=1, verbose=False)["loss"][0])


def test_a_step_is_named_by_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warploom.train.loop._SYNC_SECONDS", 1e9)  # waits after 1, 2, 4, ... steps
    with pytest.raises(wl.DivergedError, match=r"between steps \d+ and \d+ of 40: the weights are back as they were before"):
        made(1e25, 1).fit(IMAGES, epochs=1, verbose=False)


def test_pixels_as_floats_are_pointed_out() -> None:
    with pytest.warns(UserWarning, match=r"floats from 0 to 255, which look like pixels"):
        made(1e-9).fit(np.rint(np.clip(IMAGES * 300 - 20, 0, 255)), epochs=1, verbose=False)
    made(1e-9).fit(IMAGES * 6 - 3, epochs=1, verbose=False)  # normalised images are not; warnings are errors here


# Callbacks with the names of Keras


def scores(values: list[float]) -> wl.Callback:
    class Says(wl.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
            logs["val_score"] = values[epoch]

    return Says()


def test_early_stopping_waits_and_restores() -> None:
    model, kept = made(), []

    class Keeps(wl.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
            kept.append(self.model.state_dict())

    stop = EarlyStopping("val_score", patience=2, restore_best_weights=True)
    history = model.fit(IMAGES, epochs=9, callbacks=[scores([5, 3, 4, 3, 1, 9, 9, 9, 9]), Keeps(), stop], verbose=False)
    assert len(history.epoch) == 4
    assert (stop.stopped_epoch, stop.best_epoch, stop.best) == (3, 1, 3)
    assert all(np.array_equal(kept[1][k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        ({"patience": 0}, 2),  # 5 4.5: none; as in Keras the first bad epoch ends it
        ({"patience": 1, "mode": "min"}, 4),
        ({"patience": 1, "mode": "max"}, 2),
        ({"patience": 1, "min_delta": 1.0, "mode": "min"}, 2),
        ({"patience": 1, "baseline": 4.2, "mode": "min", "start_from_epoch": 1}, 2),
        ({"patience": 9}, 6),
    ],
)
def test_early_stopping_options(options: dict[str, Any], epochs: int) -> None:
    values = [5.0, 4.5, 4.0, 4.1, 3.0, 2.0]
    if options == {"patience": 0}:
        values = [5.0, 5.0, 1.0, 1.0, 1.0, 1.0]
    stop = EarlyStopping("val_score", **options)
    assert len(made().fit(IMAGES, epochs=6, callbacks=[scores(values), stop], verbose=False).epoch) == epochs


def test_scores_rise_and_losses_fall() -> None:
    values = [1.0, 2.0, 3.0, 2.0, 2.0]

    class Says(wl.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
            logs["val_psnr"] = logs["val_dssim_loss"] = values[epoch]

    rising, falling = EarlyStopping("val_psnr", patience=9), EarlyStopping("val_dssim_loss", patience=9)
    made().fit(IMAGES, epochs=5, callbacks=[Says(), rising, falling], verbose=False)
    assert (rising.best, falling.best) == (3.0, 1.0)


def test_what_is_not_there_cannot_be_watched() -> None:
    with pytest.raises(wl.ArgumentError, match=r"monitor='val_loss', but an epoch gives loss, .*pass validation_data"):
        made().fit(IMAGES, epochs=1, callbacks=[EarlyStopping()], verbose=False)
    with pytest.raises(wl.ArgumentError, match="patience"):
        EarlyStopping(patience=-1)
    with pytest.raises(wl.ArgumentError, match="mode"):
        ModelCheckpoint("x.safetensors", mode="up")


def test_checkpoints_by_epoch_and_the_best_one(tmp_path: Path) -> None:
    model = made()
    every = ModelCheckpoint(tmp_path / "nets" / "{epoch:02d}-{val_score:.1f}.safetensors")
    best = ModelCheckpoint(tmp_path / "best.safetensors", "val_score", save_best_only=True)
    model.fit(IMAGES, epochs=3, callbacks=[scores([3.0, 1.0, 2.0]), every, best], verbose=False)
    assert sorted(p.name for p in (tmp_path / "nets").iterdir()) == [
        "01-3.0.safetensors", "02-1.0.safetensors", "03-2.0.safetensors",
    ]  # fmt: skip
    kept, second = (wl.load(tmp_path / n).state_dict() for n in ("best.safetensors", "nets/02-1.0.safetensors"))
    assert all(np.array_equal(kept[k], second[k]) for k in kept)
    with pytest.raises(wl.ArgumentError, match="cannot be filled in"):
        model.fit(IMAGES, epochs=1, callbacks=[ModelCheckpoint(tmp_path / "{nothing}.safetensors")], verbose=False)


def test_a_csv_file_of_the_epochs(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.csv"
    model = made()
    first = model.fit(IMAGES, epochs=2, callbacks=[CSVLogger(path)], verbose=False)
    second = model.fit(IMAGES, epochs=1, callbacks=[CSVLogger(path, append=True)], verbose=False)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [0, 1, 0]
    assert [float(row["loss"]) for row in rows] == [*first["loss"], *second["loss"]]
    model.fit(IMAGES, epochs=1, callbacks=[CSVLogger(path, separator=";")], verbose=False)
    assert path.read_text().startswith("epoch;")
    assert len(path.read_text().splitlines()) == 2


# What is seen


def test_a_pipe_gets_lines_from_the_start(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line at least every _PLAIN_SECONDS, in training and in validation, and once how long all of it takes."""
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_FORECAST_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_LONG_SECONDS", 0.0)
    made().fit(IMAGES, epochs=2, validation_data=IMAGES[:20])
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"about \d+ s to go for 2 epochs with cpu kernels, \d+ s an epoch", lines[0])
    assert sum(line.startswith("about") for line in lines) == 1
    assert sum("validation" in line for line in lines) == 2 * 4  # of 5 batches all but the last
    assert sum(bool(re.match(r"epoch 1/2  \d+/40 images  loss", line)) for line in lines) == 9
    made().fit(IMAGES, epochs=1, verbose=False)
    assert not capsys.readouterr().out


def test_the_forecast_counts_the_validation() -> None:
    shown = progress.PlainProgress()
    shown.on_train_begin(
        {"epochs": 3, "steps": 5, "samples": 100, "device": "cpu", "version": "cpu", "validation_samples": 60, "note": ""}
    )
    shown.on_epoch_begin(0, {"batch": 0})
    logs = {"loss": 1.0, "samples": 50, "fresh": 50, "total": 100, "seconds": 5.0}
    assert shown.remaining(logs) == pytest.approx(5 + 2 * 10 + 3 * 2)  # a sample of validation takes a third
    shown.on_test_batch_end(0, {"samples": 60, "total": 60, "seconds": 4.0})
    assert shown.remaining(logs) == pytest.approx(5 + 2 * 10 + 3 * 4)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (89, "89 s"), (100, "2 min"), (5400, "1 h 30 min"), (40000, "11 h")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert progress.about(seconds) == words


def test_a_notebook_shows_progress_in_one_output(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, data: dict[str, str], raw: bool) -> None:
            shown.append(data["text/plain"])

    def display(data: dict[str, str], raw: bool, display_id: bool) -> Handle:
        shown.append(data["text/plain"])
        return Handle()

    shell = types.SimpleNamespace(kernel=object(), execution_count=7)
    fake = types.SimpleNamespace(get_ipython=lambda: shell, display=types.SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython", fake)  # type: ignore[arg-type]
    monkeypatch.setattr(progress, "_NOTEBOOK_SECONDS", 0.0)
    model = made()
    model.fit(IMAGES, epochs=2, validation_data=IMAGES[:20])
    assert not capsys.readouterr().out
    assert any("validation" in text for text in shown)
    assert any(re.search(r"█+░* epoch 2/2  \d+/40 images", text) for text in shown)
    assert len(shown[-1].splitlines()) == 2  # a line for every epoch, and no bar
    # What prints itself is not shown once more in its cell, but is in another one.
    table = model.summary()
    assert capsys.readouterr().out.count("conv2d_1") == 1
    table._ipython_display_()
    assert not capsys.readouterr().out
    shell.execution_count = 8
    table._ipython_display_()
    assert capsys.readouterr().out.count("conv2d_1") == 1


def test_an_interrupted_fit_says_how_far_it_came_and_leaves_a_model_that_trains_on(capsys: pytest.CaptureFixture[str]) -> None:
    class CtrlC(wl.Callback):
        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            if batch == 5:
                raise KeyboardInterrupt

    model, twin = made(momentum=0.0), made(momentum=0.0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(IMAGES, epochs=3, callbacks=[CtrlC()])
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"stopped in epoch 1/3 after 20 of 40 images, loss 0\.\d{6}", last)
    twin.load_state_dict(model.state_dict())
    assert np.array_equal(model.predict(IMAGES), twin.predict(IMAGES))
    assert model.fit(IMAGES, epochs=2, verbose=False)["loss"] == twin.fit(IMAGES, epochs=2, verbose=False)["loss"]


def test_a_picture_for_a_notebook() -> None:
    bundle = made().plot()._repr_mimebundle_()
    assert "<svg" in bundle["image/svg+xml"]
    assert "Picture of" in bundle["text/plain"]


def test_time_before_a_stop_counts() -> None:
    """An epoch that is finished after a stop tells of all its samples and all its time."""
    model = made()

    class Stops(wl.Callback):
        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            self.model.stop_training = batch == 6

    class StopsInValidation(wl.Callback):
        def on_test_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            self.model.stop_training = True

    model.fit(IMAGES, epochs=1, callbacks=[Stops()], verbose=False)
    assert (model.progress.batch, model.progress.samples) == (7, 28)
    before = model.progress.seconds
    assert before > 0
    model.fit(IMAGES, None, 1, IMAGES[:8], callbacks=[StopsInValidation()], start=model.progress, verbose=False)
    assert model.progress.batch == 10
    history = model.fit(IMAGES, epochs=1, validation_data=IMAGES[:8], start=model.progress, verbose=False)
    assert history["seconds"][0] > before
    assert history["images_per_second"][0] == pytest.approx(40 / history["seconds"][0])


def test_a_schedule_logs_the_rate_that_was_used() -> None:
    model = made(0.1)
    schedule = wl.optim.schedules.StepLR(1, 0.5)
    assert model.fit(IMAGES, epochs=3, callbacks=[schedule], verbose=False)["lr"] == [0.1, 0.05, 0.025]


def test_a_warmup_that_is_a_share() -> None:
    def rates(warmup: float) -> list[float]:
        return made(0.1).fit(IMAGES, epochs=10, callbacks=[wl.optim.schedules.CosineLR(warmup=warmup)], verbose=False)["lr"]

    assert rates(0.3) == rates(3)
    assert rates(0.3) != rates(0)
