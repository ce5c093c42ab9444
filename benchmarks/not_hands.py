"""Pictures that are no hand, drawn from a seed: what someone uploads by mistake, and what someone makes to mislead.

Twelve kinds; none is anybody's photograph or radiograph. The radiographs among them (chest, knee, foot, skull) are
built as the synthetic hands are: thicknesses add up along the ray and a film curve makes grey of the sum, so they have
a radiograph's tones and none of its hand. `climbed` makes a further kind against a model: noise that is changed, step
by step, until the measure that should refuse it likes it better.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]
Film = npt.NDArray[np.float32]
WORDS = ("the", "of", "child", "hand", "radiograph", "left", "date", "growth", "no", "fracture", "seen", "age", "bone")


@dataclass(frozen=True)
class NotAHand:
    """One picture, uint8 [H, W], and what kind it is of."""

    kind: str
    image: Grey


def not_hands(each: int, seed: int) -> list[NotAHand]:
    """`each` pictures of every kind; the same ones for the same seed."""
    return [NotAHand(kind, _drawn(kind, draw, seed, number)) for kind, draw in KINDS.items() for number in range(each)]


def climbed(
    distance_of: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float64]], steps: int, seed: int, side_px: int = 256
) -> Grey:
    """Noise, changed for `steps` steps towards a small distance: what an attacker without gradients can do.

    Args:
        distance_of: The distances [N] of N pictures, uint8 [N, H, W].
    """
    rng = np.random.default_rng(seed)
    cells = [6, 12, 24, 48]
    best = 128 + 40 * rng.standard_normal((side_px, side_px), dtype=np.float32)
    lowest = np.inf
    for step in range(steps):
        size = 40 * 0.985**step + 4
        tried = [best]
        for _ in range(4):
            cell = cells[int(rng.integers(len(cells)))]
            coarse = rng.standard_normal((cell, cell), dtype=np.float32) * (rng.random((cell, cell)) < 0.3)
            change = cv2.resize(coarse.astype(np.float32), (side_px, side_px), interpolation=cv2.INTER_CUBIC)
            tried.append(np.clip(best + size * change, 0, 255).astype(np.float32))
        distances = distance_of(np.stack([np.rint(np.clip(one, 0, 255)).astype(np.uint8) for one in tried]))
        chosen = int(np.argmin(distances))
        if distances[chosen] < lowest:
            best, lowest = tried[chosen], float(distances[chosen])
    return np.rint(np.clip(best, 0, 255)).astype(np.uint8)


def _drawn(kind: str, draw: Callable[[np.random.Generator], Film | Grey], seed: int, number: int) -> Grey:
    digest = hashlib.sha256(f"{seed}\0{kind}\0{number}".encode()).digest()
    drawn = draw(np.random.default_rng(int.from_bytes(digest[:8])))
    return drawn if drawn.dtype == np.uint8 else _grey(drawn)


def _grey(levels: npt.NDArray[np.floating]) -> Grey:
    """From black 0 and white 1."""
    return np.rint(np.clip(levels, 0, 1) * 255).astype(np.uint8)


# Radiographs of something else ---------------------------------------------------------------------------------------


def _developed(thickness: Film, rng: np.random.Generator) -> Film:
    """Film curve, blur and grain, as `bone_age.data.synthetic` has them."""
    soft = cv2.GaussianBlur(thickness, (0, 0), rng.uniform(0.8, 2.0))
    film = 0.05 + 0.93 * (1 - np.exp(-rng.uniform(1.2, 2.0) * soft)) ** rng.uniform(0.8, 1.3)
    return np.asarray(film + 0.012 * rng.standard_normal(film.shape), np.float32)


def _ellipse(shape: tuple[int, int], middle: tuple[float, float], radii: tuple[float, float], degrees: float) -> Film:
    """Thickness of an ellipsoid, 1 in its middle; lengths in shares of the height."""
    height = shape[0]
    down, across = np.mgrid[: shape[0], : shape[1]].astype(np.float32) / height
    turn = np.deg2rad(degrees)
    x, y = across - middle[0], down - middle[1]
    along, aside = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    return np.sqrt(np.clip(1 - (along / radii[0]) ** 2 - (aside / radii[1]) ** 2, 0, 1)).astype(np.float32)


def _bone(film: Film, start: tuple[float, float], end: tuple[float, float], radius: float) -> None:
    """A shaft with wider ends and a dense wall, added to `film`; lengths in shares of the height."""
    height = film.shape[0]
    mask = np.zeros(film.shape, np.uint8)
    a, b = (np.array(point) * height for point in (start, end))
    for share in np.linspace(0, 1, 60):
        wide = radius * height * (0.75 + 0.45 * abs(2 * share - 1) ** 3)
        cv2.circle(mask, tuple(int(v) for v in a + share * (b - a)), max(int(wide), 1), 255, -1)
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 3) / (radius * height)
    film += np.where(depth > 0, 0.3 + 0.3 * np.minimum(3 * depth, 1) + 0.4 * np.exp(-(((depth - 0.2) / 0.15) ** 2)), 0)


def _chest(rng: np.random.Generator) -> Film:
    shape = (420, int(rng.integers(340, 440)))
    middle = shape[1] / shape[0] / 2
    wide = rng.uniform(0.34, 0.42)
    film = 1.1 * _ellipse(shape, (middle, 0.55), (wide, 0.62), 0)
    for side in (-1, 1):
        lung = _ellipse(shape, (middle + side * 0.17, 0.45), (0.12, rng.uniform(0.26, 0.32)), 4 * side)
        film -= 0.75 * lung
        _bone(film, (middle + side * 0.03, 0.14), (middle + side * 0.28, 0.1), 0.012)
        for rib in range(9):
            height = 0.17 + 0.062 * rib
            arc = np.array(
                [
                    [(middle + side * wide * 0.85 * np.sin(t)) * 420, (height + 0.11 * np.sin(t) ** 2) * 420]
                    for t in np.linspace(0.12, np.pi / 2, 24)
                ]
            )
            line = cv2.polylines(np.zeros(shape, np.float32), [arc.astype(np.int32)], False, 0.16, 6)
            film += line
    film += 0.6 * _ellipse(shape, (middle + 0.06, 0.58), (0.13, 0.11), rng.uniform(20, 50))
    film += 0.8 * _ellipse(shape, (middle, 0.95), (wide, rng.uniform(0.22, 0.3)), 0)
    for vertebra in range(14):
        film += 0.35 * _ellipse(shape, (middle, 0.05 + 0.068 * vertebra), (0.035, 0.03), 0)
    return _developed(np.maximum(film, 0), rng)


def _knee(rng: np.random.Generator) -> Film:
    shape = (440, int(rng.integers(260, 380)))
    middle = shape[1] / shape[0] / 2 + rng.uniform(-0.03, 0.03)
    lean = rng.uniform(-0.04, 0.04)
    film = 0.7 * np.maximum(
        _ellipse(shape, (middle, 0.2), (0.22, 0.7), 0), _ellipse(shape, (middle, 0.85), (0.18, 0.6), 0)
    )
    _bone(film, (middle + lean, -0.1), (middle, 0.42), 0.075)
    _bone(film, (middle - 0.055, 0.42), (middle + 0.055, 0.43), 0.07)
    _bone(film, (middle - 0.05, 0.56), (middle + 0.05, 0.56), 0.055)
    _bone(film, (middle, 0.58), (middle - lean, 1.1), 0.055)
    _bone(film, (middle + 0.1, 0.63), (middle + 0.1 - lean, 1.1), 0.02)
    film += 0.25 * _ellipse(shape, (middle, 0.38), (0.065, 0.07), 0)
    return _developed(film, rng)


def _foot(rng: np.random.Generator) -> Film:
    """From above: five short rays before large tarsal bones; of all that is no hand, the nearest to one."""
    shape = (440, int(rng.integers(240, 340)))
    middle = shape[1] / shape[0] / 2
    film = 0.6 * _ellipse(shape, (middle, 0.55), (0.19, 0.52), rng.uniform(-5, 5))
    for ray in range(5):
        x = middle + 0.06 * (ray - 2)
        tip = 0.1 + 0.025 * ray + rng.uniform(-0.01, 0.01)
        thick = 0.024 if ray == 0 else 0.013
        _bone(film, (x, 0.36 + 0.02 * ray), (x - 0.2 * (x - middle), 0.6), thick)
        joints = np.linspace(tip, 0.33 + 0.02 * ray, 3 if ray == 0 else 4)
        for upper, lower in pairwise(joints):
            _bone(film, (x + 0.01, upper + 0.012), (x, lower - 0.012), 0.8 * thick)
    for x, y, radius in ((-0.06, 0.65, 0.04), (0.0, 0.66, 0.04), (0.06, 0.67, 0.045), (-0.03, 0.74, 0.055)):
        film += 0.5 * _ellipse(shape, (middle + x, y), (radius, radius * 1.1), 0)
    film += 0.8 * _ellipse(shape, (middle, 0.87), (0.085, 0.13), 0)
    return _developed(film, rng)


def _skull(rng: np.random.Generator) -> Film:
    shape = (420, int(rng.integers(340, 400)))
    middle = shape[1] / shape[0] / 2
    outer = _ellipse(shape, (middle, 0.45), (0.33, 0.4), 0)
    film = 1.2 * outer - 0.55 * _ellipse(shape, (middle, 0.45), (0.31, 0.38), 0)
    for side in (-1, 1):
        film -= 0.4 * _ellipse(shape, (middle + side * 0.11, 0.5), (0.075, 0.06), 0)
    film -= 0.3 * _ellipse(shape, (middle, 0.62), (0.04, 0.09), 0)
    film += 0.5 * _ellipse(shape, (middle, 0.82), (0.2, 0.12), 0)
    for tooth in range(-5, 6):
        for row in (0.755, 0.805):
            film += 0.5 * _ellipse(shape, (middle + 0.03 * tooth, row + 0.0012 * tooth**2), (0.011, 0.022), 0)
    return _developed(np.maximum(film, 0), rng)


# Pictures that come from elsewhere -----------------------------------------------------------------------------------


def _text_page(rng: np.random.Generator) -> Grey:
    page = np.full((int(rng.integers(400, 620)), 440), 255 - int(rng.integers(20)), np.uint8)
    scale, gap = rng.uniform(0.35, 0.7), int(rng.integers(16, 28))
    for baseline in range(40, page.shape[0] - 20, gap):
        if rng.random() < 0.12:
            continue
        words = " ".join(rng.choice(WORDS, 12))
        cv2.putText(page, words, (28, baseline), cv2.FONT_HERSHEY_SIMPLEX, scale, int(rng.integers(70)), 1, cv2.LINE_AA)
    page[:, -24:] = page[0, 0]
    return 255 - page if rng.random() < 0.25 else page


def _label_only(rng: np.random.Generator) -> Film:
    """A film without a patient: a letter, a line of writing, perhaps the edge of a collimated field."""
    shape = (int(rng.integers(300, 500)), int(rng.integers(260, 400)))
    film = np.full(shape, rng.uniform(0.02, 0.6), np.float32)
    if rng.random() < 0.5:
        film[30:-40, 25:-30] += rng.uniform(0.05, 0.3)
    ink = np.zeros(shape, np.uint8)
    at = (int(rng.integers(20, 200)), int(rng.integers(60, 250)))
    cv2.putText(ink, "RL"[int(rng.integers(2))], at, cv2.FONT_HERSHEY_SIMPLEX, 1.5, 255, 4)
    cv2.putText(ink, " ".join(rng.choice(WORDS, 3)), (20, shape[0] - 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
    film += 0.35 * (ink > 0)
    return film + 0.01 * rng.standard_normal(shape).astype(np.float32)


def _photograph(rng: np.random.Generator) -> Film:
    """Textured discs and boxes that hide each other, large and small: the statistics of photographs."""
    shape = (360, int(rng.integers(300, 480)))
    film = _noise_with(shape, -1.5, rng)
    for _ in range(140):
        size = int(min(6 / max(rng.random(), 0.03) ** 0.8, 130))
        x, y = int(rng.integers(shape[1])), int(rng.integers(shape[0]))
        mask = np.zeros(shape, np.uint8)
        if rng.random() < 0.6:
            cv2.ellipse(mask, (x, y), (size, int(size * rng.uniform(0.4, 1))), rng.uniform(0, 180), 0, 360, 1, -1)
        else:
            cv2.rectangle(mask, (x, y), (x + size, y + int(size * rng.uniform(0.4, 2))), 1, -1)
        shade = np.linspace(0, rng.uniform(-0.3, 0.3), shape[1], dtype=np.float32)[None]
        texture = rng.uniform(0.05, 0.95) + shade + rng.uniform(0, 0.08) * rng.standard_normal(shape)
        film = np.where(mask > 0, texture, film).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(film, (0, 0), rng.uniform(0.5, 1.5)), np.float32)


def _face(rng: np.random.Generator) -> Film:
    shape = (400, 340)
    film = np.full(shape, rng.uniform(0.1, 0.9), np.float32) + 0.1 * (_noise_with(shape, -2, rng) - 0.5)
    skin, dark = rng.uniform(0.35, 0.85), rng.uniform(0.02, 0.3)
    parts = [(0.425, 0.95, 0.4, 0.25, dark), (0.425, 0.4, 0.24, 0.31, dark), (0.425, 0.5, 0.2, 0.29, skin)]
    parts += [(0.425 + side * 0.085, 0.44, 0.035, 0.018, 0.95) for side in (-1, 1)]
    parts += [(0.425 + side * 0.085, 0.44, 0.016, 0.016, 0.05) for side in (-1, 1)]
    parts += [(0.425, 0.54, 0.02, 0.06, skin * 0.85), (0.425, 0.66, 0.075, 0.02, skin * 0.5)]
    for x, y, wide, high, level in parts:
        solid = np.clip(4 * _ellipse(shape, (x + rng.uniform(-0.01, 0.01), y), (wide, high), 0), 0, 1)
        film = film * (1 - solid) + solid * (level + 0.06 * (1 - solid))
    return np.asarray(cv2.GaussianBlur(film, (0, 0), 1.2) + 0.015 * rng.standard_normal(shape), np.float32)


# Patterns ------------------------------------------------------------------------------------------------------------


def _noise_with(shape: tuple[int, int], slope: float, rng: np.random.Generator) -> Film:
    """Noise whose amplitude goes with frequency to the power of `slope`; mean 0.5."""
    spectrum = np.fft.rfft2(rng.standard_normal(shape))
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None])
    frequency[0, 0] = 1
    noise = np.fft.irfft2(spectrum * frequency**slope, shape)
    return (0.5 + 0.2 * (noise - noise.mean()) / noise.std()).astype(np.float32)


def _noise(rng: np.random.Generator) -> Film:
    """White to brown, and some with a cut-off."""
    film = _noise_with((int(rng.integers(200, 500)), 360), float(rng.choice([0.0, -0.5, -1.0, -1.5, -2.0, -3.0])), rng)
    return np.asarray(cv2.GaussianBlur(film, (0, 0), 3), np.float32) * 2 - 0.5 if rng.random() < 0.3 else film


def _checks(rng: np.random.Generator) -> Film:
    size = int(rng.integers(4, 80))
    down, across = np.mgrid[:400, :360]
    turn = rng.uniform(0, np.pi / 2) if rng.random() < 0.5 else 0
    x, y = across * np.cos(turn) + down * np.sin(turn), down * np.cos(turn) - across * np.sin(turn)
    on = (np.floor(x / size) + (np.floor(y / size) if rng.random() < 0.7 else 0)) % 2
    low, high = sorted(rng.uniform(0, 1, 2))
    return (low + (high - low + 0.1) * on).astype(np.float32)


def _gradient(rng: np.random.Generator) -> Film:
    down, across = np.mgrid[:400, :360].astype(np.float32) / 400
    turn = rng.uniform(0, 2 * np.pi)
    line = across * np.cos(turn) + down * np.sin(turn)
    film = np.hypot(across - rng.uniform(0.2, 0.7), down - rng.uniform(0.2, 0.8)) if rng.random() < 0.5 else line
    film = (film - film.min()) / (film.max() - film.min())
    return (film ** rng.uniform(0.5, 2) + 0.01 * rng.standard_normal(film.shape)).astype(np.float32)


def _adversarial(rng: np.random.Generator) -> Film:
    """Waves through folded noise, as patterns that mislead many networks at once are made."""
    shape = (320, 320)
    waves = np.zeros(shape, np.float32)
    for slope in rng.uniform(-3, -1.5, 2):
        waves += np.sin(2 * np.pi * rng.uniform(1, 9) * (_noise_with(shape, slope, rng) - 0.5)).astype(np.float32)
    down, across = np.mgrid[:320, :320]
    turn = rng.uniform(0, np.pi)
    carrier = np.sin((across * np.cos(turn) + down * np.sin(turn)) * rng.uniform(0.1, 1.5))
    return (0.5 + 0.2 * waves + rng.uniform(0, 0.25) * carrier).astype(np.float32)


KINDS: dict[str, Callable[[np.random.Generator], Film | Grey]] = {
    "chest film": _chest,
    "knee film": _knee,
    "foot film": _foot,
    "skull film": _skull,
    "text page": _text_page,
    "empty film with a label": _label_only,
    "photograph": _photograph,
    "face": _face,
    "noise": _noise,
    "checks and stripes": _checks,
    "gradient": _gradient,
    "adversarial pattern": _adversarial,
}
