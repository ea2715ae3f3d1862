"""The synthetic faces: two people who differ, whose faces turn, look, speak and blink, in any size, with masks that fit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from warploom.cli import main
from warploom.data import synthetic
from warploom.data.photos import TRAIN, generator
from warploom.data.portraits import PEOPLE, Look, portrait

STILL = Look(
    yaw=0.0, pitch=0.0, roll=0.0, shift=(0.0, 0.0), scale=1.0, light=(0.0, 0.0), smile=0.0, opening=0.0, lids=1.0, raised=0.0,
    gaze=(0.0, 0.0), clothes=(0.3, 0.3, 0.3), background=((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
)  # fmt: skip
SIZE = 96


def face(who: str, **changes: object) -> np.ndarray:
    return portrait(PEOPLE[who], dataclasses.replace(STILL, **changes), SIZE, SIZE)[0].astype(float)  # type: ignore[arg-type]


def centre(changed: np.ndarray) -> tuple[float, float]:
    """Where two pictures differ, in parts of the picture: down, across."""
    weight = np.abs(changed).sum(2)
    assert weight.sum() > 0, "nothing changed"
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    return float((weight * y).sum() / weight.sum() / SIZE), float((weight * x).sum() / weight.sum() / SIZE)


@pytest.mark.parametrize("who", PEOPLE)
def test_expressions_change_the_part_they_should(who: str) -> None:
    rest = face(who)
    mouth, smile, lids, brows = (
        centre(face(who, **change) - rest) for change in ({"opening": 1.0}, {"smile": 1.0}, {"lids": 0.2}, {"raised": 1.0})
    )
    gaze = centre(face(who, gaze=(1.0, 0.0)) - rest)
    assert brows[0] < lids[0] < mouth[0], "from above: brows, eyes, mouth"
    assert abs(gaze[0] - lids[0]) < 0.04
    assert abs(smile[0] - mouth[0]) < 0.06
    for place in (mouth, smile, lids, brows):
        assert abs(place[1] - 0.5) < 0.03, "both sides alike"


@pytest.mark.parametrize("who", PEOPLE)
def test_a_turned_head(who: str) -> None:
    """The features move to the side it turns to, up or down as it nods, and the mirror image is the other turn's."""
    shade = {"light": (0.0, 0.0)}
    for yaw in (-0.4, 0.4):
        pair = [face(who, yaw=yaw, opening=opening, **shade) for opening in (0.0, 1.0)]
        across = centre(pair[1] - pair[0])[1]
        assert (across - 0.5) * yaw > 0.02, (yaw, across)
    down = [centre(face(who, pitch=p, opening=1.0) - face(who, pitch=p))[0] for p in (-0.2, 0.2)]
    assert abs(down[1] - down[0]) > 0.03
    if not PEOPLE[who].long_hair:  # her parting is on one side
        left, right = face(who, yaw=-0.4), face(who, yaw=0.4)
        assert np.abs(left[20:, ::-1] - right[20:]).mean() < 3


def test_masks_are_of_the_face() -> None:
    for person in PEOPLE.values():
        for i in range(6):
            look = Look.drawn(generator(3, TRAIN, i))
            picture, mask = portrait(person, look, 64, 64)
            assert (picture.shape, picture.dtype, mask.shape, mask.dtype) == ((64, 64, 3), np.uint8, (64, 64), np.uint8)
            assert 0.08 < (mask > 127).mean() < 0.5
            skin, inside = np.array(person.skin) * 255, picture[mask > 250].astype(float)
            hue = inside / inside.sum(1, keepdims=True)
            assert (np.abs(hue - skin / skin.sum()).sum(1) < 0.2).mean() > 0.6, "mostly skin"
            assert (mask[0] == 0).all()


def test_the_two_people_differ() -> None:
    """More than one of them differs from one picture to the next, inside the masks."""
    colours: dict[str, list[np.ndarray]] = {who: [] for who in PEOPLE}
    for who, person in PEOPLE.items():
        for i in range(12):
            picture, mask = portrait(person, Look.drawn(generator(5, TRAIN, i)), 48, 48)
            colours[who].append(picture[mask > 127].mean(0))
    means = {who: np.mean(v, axis=0) for who, v in colours.items()}
    within = max(float(np.linalg.norm(np.std(v, axis=0))) for v in colours.values())
    assert np.linalg.norm(means["src"] - means["dst"]) > 4 * within


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 40), (64, 32), (130, 97)])
def test_any_size(height: int, width: int) -> None:
    sample = synthetic.faces(synthetic.source("faces"), generator(0, TRAIN, 0), TRAIN, height, width)
    assert {a.shape[:2] for a in sample.values()} == {(height, width)}
    assert all(sample[who].std() > 10 for who in PEOPLE)


def test_no_photographs_are_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("warploom.data.photos.photographs", list)
    assert main(["make-data", "liae_ud", f"{tmp_path}/faces", "--count", "2", "--size", "32"]) == 0
    assert "drawn by the program" in capsys.readouterr().out
    assert main(["make-data", "liae_ud", f"{tmp_path}/more", "--count", "2", "--photos", str(tmp_path)]) == 2
    assert "faces are drawn by the program: leave --photos out" in capsys.readouterr().err
