"""`warploom report`: what stands on the page, that nothing enters or leaves it, what is said of what is missing, --live."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest
import warploom as wl
from PIL import Image
from warploom.cli import main
from warploom.report import charts, latent, live, markup, pixels

EVIL = "<img src=x onerror=alert(1)>"  # as a class, a file and a run are named


def small(*, skip: bool = False) -> wl.Model:
    x = wl.Input((3, 16, 16), name="image")
    first = wl.layers.ReLU()(wl.layers.Conv2d(8, 3, padding=1)(x))
    h = wl.layers.Latent()(wl.layers.Conv2d(4, 3, stride=2, padding=1)(first))
    y = wl.layers.Upsample(2)(h)
    if skip:
        y = wl.layers.Concat()([y, first])
    return wl.Model(x, wl.layers.Conv2d(3, 3, padding=1)(y), name="small")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders: photos (two classes), run (three epochs on them), one (one epoch, with a skip)."""
    root = tmp_path_factory.mktemp("reports")
    rng = np.random.default_rng(0)
    for name, tint in (("cats", 40), (EVIL, 160)):
        (root / "photos" / name).mkdir(parents=True)
        for i in range(120):
            pixels = np.clip(rng.normal(tint, 30, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "photos" / name / f"{i}.png")
    for name, epochs, skip in (("run", 3, False), ("one", 1, True)):
        small(skip=skip).save(root / f"{name}.safetensors")
        command = ["train", "--model", str(root / f"{name}.safetensors"), "--data", str(root / "photos"), "--batch-size", "20"]
        assert main([*command, "--epochs", str(epochs), "--device", "cpu", "--out", str(root / name)]) == 0
    return root


@pytest.fixture(scope="module")
def page(runs: Path) -> Path:
    folder = runs / f"{EVIL.replace('/', '')} & co"
    shutil.copytree(runs / "run", folder)
    assert main(["report", str(folder)]) == 0
    return folder / "report.html"


class Tags(HTMLParser):
    """Every element with its attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def sections(text: str) -> list[str]:
    return [str(a["id"]) for tag, a in Tags(text).found if tag == "section"]


ALL = ["training", "reconstructions", "latent", "interpolation", "filters", "network", "plan", "configuration", "environment"]


def test_the_page_has_every_section(page: Path, runs: Path) -> None:
    text = page.read_text()
    assert sections(text) == ALL
    rows = [json.loads(line) for line in (runs / "run/metrics.jsonl").read_text().splitlines()]
    words = " ".join(Tags(text).words)
    assert f"{rows[-1]['test_psnr']:.2f} dB" in words
    assert "epoch 3 of 3" in words
    assert wl.__version__ in words
    size = re.search(r"One file of ([\d.]+ KiB)", text)
    assert size is not None
    assert abs(float(size[1].split()[0]) - len(page.read_bytes()) / 1024) < 0.2


def test_nothing_is_loaded_from_anywhere(page: Path) -> None:
    text = page.read_text()
    for tag, attributes in Tags(text).found:
        for key in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(key)
            assert value is None or value.startswith(("data:image/", "#")), f"<{tag} {key}={value[:60]!r}>"
        assert tag not in ("link", "iframe", "object", "embed", "form", "base")
        assert not [key for key in attributes if key.startswith("on")]
    style = " ".join(re.findall(r"<style.*?</style>", text, re.DOTALL))
    assert "@import" not in style
    assert all(target.startswith("data:") for target in re.findall(r"url\(([^)]{0,20})", style))


def test_names_from_files_are_text(page: Path) -> None:
    found = Tags(page.read_text())
    assert not [a for tag, a in found.found if tag == "img" and a.get("src") == "x"]
    assert any(EVIL in words for words in found.words)  # it is there, as it is written
    assert "& co" in " ".join(found.words)


def test_no_path_of_this_machine_is_passed_on(page: Path, runs: Path) -> None:
    assert str(runs) not in page.read_text()
    assert str(Path.home()) + "/" not in page.read_text()
    assert "…/photos" in page.read_text()


def test_one_epoch_and_skips(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "one.html"
    assert main(["report", str(runs / "one"), "--out", str(out)]) == 0
    text = out.read_text()
    assert "One epoch so far" in text
    assert "Skips lead past this network" in text
    assert sections(text) == ALL


def test_before_the_first_epoch(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "begun").mkdir()
    shutil.copy(runs / "run/config.json", tmp_path / "begun")
    assert main(["report", str(tmp_path / "begun")]) == 0
    assert "No epoch has ended yet" in capsys.readouterr().out
    made = sections((tmp_path / "begun/report.html").read_text())
    assert made == ["training", "reconstructions", "network", "plan", "configuration", "environment"]


def test_images_that_are_gone(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rest of the page is made, and how to show others is said; others that cannot be read are an error."""
    shutil.copytree(runs / "run", tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    (tmp_path / "run/config.json").write_text(json.dumps({**config, "data": str(tmp_path / "gone")}))
    assert main(["report", str(tmp_path / "run"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "Name others with --data" in told["missing"]["images"]
    assert (tmp_path / "run/report.html").stat().st_size == told["bytes"]
    assert main(["report", str(tmp_path / "run"), "--data", str(tmp_path / "gone")]) == 2
    assert "gone" in capsys.readouterr().err
    np.save(tmp_path / "x.npy", np.zeros((3, 16, 16, 3), np.uint8))
    assert main(["report", str(tmp_path / "run"), "--data", str(tmp_path / "x.npy")]) == 0
    assert "needs at least 6 images" in (tmp_path / "run/report.html").read_text()


def test_a_models_file(runs: Path, tmp_path: Path) -> None:
    shutil.copy(runs / "run/model.safetensors", tmp_path / "mine.safetensors")
    assert main(["report", str(tmp_path / "mine.safetensors"), "--data", str(runs / "photos")]) == 0
    assert sections((tmp_path / "mine-report.html").read_text()) == ALL


def test_outputs_that_are_not_finite_are_drawn(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "run", tmp_path / "run")
    model = wl.load(runs / "run")
    model.load_state_dict({name: value * np.float32(1e25) for name, value in model.state_dict().items()})
    model.save(tmp_path / "run/model.safetensors")
    assert main(["report", str(tmp_path / "run")]) == 0
    assert "not finite" in (tmp_path / "run/report.html").read_text()


@pytest.mark.parametrize("kind", ["nothing", "cut", "no model", "folder as --out", "--port", "--live of a file"])
def test_what_cannot_be_reported(kind: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(runs / "run", tmp_path / "run")
    run = tmp_path / "run"
    command, said = {
        "nothing": ([str(tmp_path / "none")], "there is no"),
        "cut": ([str(run)], "is damaged"),
        "no model": ([str(tmp_path)], "holds no run"),
        "folder as --out": ([str(run), "--out", str(tmp_path)], "is a folder: name a file"),
        "--port": ([str(run), "--port", "99"], "--port is for --live"),
        "--live of a file": ([str(run / "model.safetensors"), "--live"], "follows the folder of a run"),
    }[kind]
    if kind == "cut":
        content = (run / "model.safetensors").read_bytes()
        (run / "model.safetensors").write_bytes(content[: len(content) // 2])
    assert main(["report", *command]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_results_beside_the_run_are_shown(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "run", tmp_path / "run")
    scores = {"accuracy": 0.9, "interval_95": [0.85, 0.95], "confusion": [[40, 2], [8, 50]], "tested_on": "test"}
    named = [{"name": "cats", "recall": 0.95}, {"name": EVIL, "recall": 0.86}]
    results = [{"features": "latent", "method": "linear", **scores, "classes": named}]
    results.append({"features": "raw pixels", "method": "linear", **scores, "accuracy": 0.6})
    (tmp_path / "run/classify").mkdir()
    (tmp_path / "run/classify/results.json").write_text(json.dumps({"results": results}))
    nested = {"untrained network": {"rbf": {**scores, "accuracy": 0.25, "features": 8192, "method": "rbf"}}}
    (tmp_path / "run/classify/report.json").write_text(json.dumps(nested))
    summary = {"threshold": 1.5, "threshold_from": "normal images", "image": {"auroc": 0.75}, "pixel": {"auroc": 0.625}}
    elsewhere = tmp_path / "detections"
    elsewhere.mkdir()
    (elsewhere / "summary.json").write_text(json.dumps(summary))
    (elsewhere / "scores.csv").write_text("image,score,truth\na,3,abnormal\nb,2,normal\nc,2,abnormal\nd,1,normal\n")
    Image.new("RGB", (40, 20)).save(elsewhere / "overview.png")
    for name, text in (
        ("half.json", '{"accuracy": 0.'),
        ("odd.json", '{"accuracy": "x", "confusion": [[1, 2], [3]], "fpr": [1]}'),
    ):
        (tmp_path / "run" / name).write_text(text)
    (tmp_path / "run/odder.json").write_text('[{"accuracy": 1, "confusion": [["<b>"]]}, {"threshold": NaN, "threshold_from": 1}]')
    assert main(["report", str(tmp_path / "run"), "--results", str(elsewhere)]) == 0
    text = (tmp_path / "run/report.html").read_text()
    assert sections(text) == [*ALL[:4], "classification", "detection", *ALL[4:]]
    tips = [a.get("data-tip") for _, a in Tags(text).found]
    assert f"{EVIL} taken for cats: 8 of 58" in tips
    words = " ".join(Tags(text).words)
    assert "85.00 % to 95.00 %" in words
    assert "raw pixels, linear" in words
    assert "untrained network, rbf" in words
    assert "0.625" in words
    line = next(a["data-lines"] for _, a in Tags(text).found if "True positive rate" in (a.get("aria-label") or ""))
    points = json.loads(line or "")["lines"][0]["points"]
    assert [p[2:] for p in points] == [["0", "0"], ["0", "0.5"], ["0.5", "1"], ["1", "1"]]  # equal scores are one step
    assert main(["report", str(tmp_path / "run"), "--results", str(tmp_path / "gone")]) == 2


def test_other_kinds_of_data(tmp_path: Path) -> None:
    command = ["train", "--model", "unet_small", "--size", "32", "--limit", "40", "--epochs", "1", "--device", "cpu"]
    assert main([*command, "--out", str(tmp_path / "unet")]) == 0
    assert main(["report", str(tmp_path / "unet")]) == 0
    text = (tmp_path / "unet/report.html").read_text()
    assert ">prediction<" in text
    assert "Mean IoU" in text


# The parts


def test_principal_components_are_those_of_the_singular_value_decomposition() -> None:
    x = np.random.default_rng(1).normal(size=(30, 200)).astype(np.float32) * np.linspace(3, 0.1, 200, dtype=np.float32)
    placed, shares = latent.pca(x, 3)
    u, s, _ = np.linalg.svd(x.astype(np.float64) - x.mean(0, dtype=np.float64), full_matrices=False)
    np.testing.assert_allclose(np.abs(placed), np.abs(u[:, :3] * s[:3]), atol=1e-3)
    np.testing.assert_allclose(shares, s[:3] ** 2 / (s**2).sum(), rtol=1e-4)
    assert latent.pca(np.ones((4, 5), np.float32))[0].tolist() == [[0.0, 0.0]] * 4


def test_pairs_are_of_two_classes_where_they_can_be() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2])
    found = latent.pairs_to_join(6, labels)
    assert [(labels[a] != labels[b]) for a, b in found[:2]] == [True, True]
    assert len({i for pair in found for i in pair}) == 6
    assert latent.pairs_to_join(1, None) == []


@pytest.mark.parametrize(
    ("values", "log", "wanted"),
    [([0, 100], False, [0, 20, 40, 60, 80, 100]), ([1e-4, 1], True, [1e-4, 1e-3, 1e-2, 1e-1, 1]), ([7, 7], False, [6.4, 7, 7.6])],
)
def test_ticks_are_round(values: list[float], log: bool, wanted: list[float]) -> None:
    ticks = charts.Axis(values, 0, 100, log=log).ticks()
    assert set(np.round(wanted, 9)) <= set(np.round(ticks, 9)), ticks


def test_a_long_run_is_drawn_with_few_points_and_keeps_its_end() -> None:
    epochs = [float(e) for e in range(1, 5001)]
    chart = charts.line_chart([charts.Line("training", epochs, [1 / e for e in epochs])], "epoch", "Loss")
    told = json.loads(dict(next(a for t, a in Tags(chart).found if t == "svg"))["data-lines"] or "")
    assert len(told["lines"][0]["points"]) <= 601
    assert told["lines"][0]["points"][-1][2:] == ["5000", "2e-4"]


def test_markup_escapes_everything_that_is_not_markup() -> None:
    made = markup.el("p", "a<b & ", markup.el("b", '"x"'), ["c>", None], title='"><script>')
    assert made == '<p title="&quot;&gt;&lt;script&gt;">a&lt;b &amp; <b>&quot;x&quot;</b>c&gt;</p>'


def test_heat_maps_have_one_scale() -> None:
    made = pixels.coloured(np.array([[0.0, 0.5, 1.0, 9.0, np.nan]], np.float32), 0.0, 1.0)
    assert made[0, 2].tolist() == made[0, 3].tolist()
    assert made[0, 4].tolist() == [128, 128, 128]
    assert made[0, 0].sum() < made[0, 1].sum() < made[0, 2].sum()


# The live view


def fetch(url: str, host: str | None = None) -> bytes:
    request = urllib.request.Request(url, headers={} if host is None else {"Host": host})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return bytes(answer.read())


def test_the_live_view_follows_a_run_and_ends_cleanly(runs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "run", run)
    whole = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(whole.splitlines()[0] + "\n")
    command = [sys.executable, "-m", "warploom", "report", str(run), "--live", "--out", str(tmp_path / "end.html")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert found is not None, process.communicate()
        state = json.loads(fetch(f"{found[0]}state"))
        assert state == {"stamp": 1, "training": False, "text": "not training now, after epoch 1 of 3"}
        assert b"data-live" in fetch(found[0])
        with pytest.raises(urllib.error.HTTPError, match="403"):
            fetch(found[0], host="evil.example")
        (run / "metrics.jsonl").write_text(whole)
        end = time.monotonic() + 60
        while json.loads(fetch(f"{found[0]}state"))["stamp"] == 1:
            assert time.monotonic() < end
            time.sleep(0.3)
        assert b"epoch 3 of 3" in re.sub(rb"<[^>]+>", b"", fetch(found[0]))
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, error) == (0, "")
    assert "end.html" in out
    assert sections((tmp_path / "end.html").read_text()) == ALL
    assert "data-live=" not in (tmp_path / "end.html").read_text().partition("<head>")[0]


def test_a_training_is_seen_by_its_lock(tmp_path: Path) -> None:
    assert not live.is_held(tmp_path)
    if not os.access("/proc/locks", os.R_OK):
        pytest.skip("no /proc/locks here")
    import fcntl

    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        assert live.is_held(tmp_path)
    finally:
        os.close(descriptor)


# In a browser

needs_browser = pytest.mark.skipif(browser.program() is None, reason="no Chromium here (apt install chromium, or $CHROMIUM)")


@pytest.fixture(scope="module")
def chromium() -> Any:
    with browser.browser() as started:
        yield started


def middle(chromium: browser.Browser, selector: str) -> tuple[float, float]:
    """The middle of an element in the window, once it is scrolled there."""
    chromium.evaluate(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center', behavior: 'instant'}})")
    chromium.evaluate("new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")
    box = chromium.evaluate(
        f"(() => {{ const b = document.querySelector({selector!r}).getBoundingClientRect();"
        " return [b.left + b.width / 2, b.top + b.height / 2]; })()"
    )
    return float(box[0]), float(box[1])


def tip(chromium: browser.Browser) -> str:
    return str(chromium.evaluate("(() => { const t = document.getElementById('tip');"
                                 " return t.classList.contains('on') ? t.textContent : ''; })()"))  # fmt: skip


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_in_a_browser(page: Path, chromium: browser.Browser, width: int, dark: bool, tmp_path: Path) -> None:
    chromium.open(page.as_uri(), width=width, dark=dark)
    assert chromium.complaints == []
    assert [r for r in chromium.requests if not r.startswith("data:")] == [page.as_uri()]
    assert chromium.evaluate("document.documentElement.scrollWidth") == width, "it scrolls sideways"
    wider = chromium.evaluate(
        "[...document.querySelectorAll('body *')].filter((e) => !e.closest('.scroll, nav, svg, #tip')"
        " && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert wider == []
    ground = chromium.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == dark
    broken = chromium.evaluate("[...document.images].filter((i) => !i.naturalWidth).length")
    assert broken == 0
    chromium.screenshot(tmp_path / "page.png", whole=True)


@needs_browser
def test_the_pointer_is_answered(page: Path, chromium: browser.Browser, runs: Path) -> None:
    chromium.open(page.as_uri(), width=1280)
    chromium.move(*middle(chromium, "svg[data-lines]"))
    rows = [json.loads(line) for line in (runs / "run/metrics.jsonl").read_text().splitlines()]
    assert tip(chromium) == f"epoch 2training{charts.number(rows[1]['train_loss'])}test{charts.number(rows[1]['test_loss'])}"
    chromium.move(*middle(chromium, "svg.scatter circle.point"))
    assert re.fullmatch(r".*\.png · .*", tip(chromium)), tip(chromium)
    shown = chromium.evaluate("getComputedStyle(document.querySelector('#tip .thumb')).backgroundImage.slice(0, 20)")
    assert shown.startswith('url("data:image/')
    chromium.click(*middle(chromium, ".groups button"))
    faded = chromium.evaluate("document.querySelectorAll('.panel:not([hidden]) .point.faded').length")
    assert 0 < faded < chromium.evaluate("document.querySelectorAll('.panel:not([hidden]) .point').length")
    chromium.move(*middle(chromium, ".triplets figure"))
    assert tip(chromium).endswith("dB")
    chromium.move(2, 2)
    before = chromium.evaluate("getComputedStyle(document.body).backgroundColor")
    chromium.click(*middle(chromium, "#theme"))
    assert chromium.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert chromium.complaints == []
