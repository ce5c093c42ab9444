"""Synthetic hand radiographs, drawn from a seed: so that everything runs, and is tested, without patients.

A picture is built as a film is: lengths of soft tissue and bone add up along the ray, a film curve turns the sum into
grey, noise and the darkroom follow. The hand always fills the frame, whatever its age, so absolute size tells nothing;
position, rotation (12 degrees either way), exposure and borders tell nothing either. Of 100 pictures about 6 are faint,
35 show collimation, 5 are right hands with an R, 3 are inverted like MONOCHROME1.

Figures got on these pictures say that the software works and nothing about accuracy in children.
"""

from __future__ import annotations

import csv
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from bone_age.data.manifest import MAX_BONE_AGE_MONTHS, Sex
from bone_age.data.skeleton import Bone, Hand, Points, grow_hand
from bone_age.data.threads import map_in_threads
from bone_age.errors import BoneAgeError, InputError
from bone_age.settings import SyntheticData, digest_of

GENERATOR_VERSION = 1
"""Raise it whenever a picture changes: it is part of the name of every data set written."""

YOUNGEST_MONTHS, OLDEST_MONTHS = 6, 216
_DRAWN_HEIGHT_PX = 512
_NOTE = "Synthetic hand radiographs, drawn from a seed by bone-age. No patients; they tell nothing about accuracy.\n"

Film = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Acquisition:
    """How one picture was taken; lengths in shares of the frame."""

    rotation_degrees: float
    fill: float
    shift: tuple[float, float]
    is_right: bool
    gain: float
    gamma: float
    fog: float
    gradient: tuple[float, float]
    grain: float
    blur: float
    collimation_margin: float | None
    collimation_degrees: float
    outside_grey: float
    marker_corner: int
    marker_size: float
    marker_turn_degrees: float
    is_inverted: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Acquisition:
        chance = rng.random(5)
        margin, outside = rng.uniform(0.0, 0.05), rng.uniform(0.0, 0.06)
        return cls(
            rotation_degrees=rng.uniform(-12, 12),
            fill=rng.uniform(0.84, 0.98),
            shift=(rng.uniform(-1, 1), rng.uniform(-1, 1)),
            is_right=bool(chance[0] < 0.05),
            gain=float(np.exp(rng.normal(0.0, 0.12))) * (0.45 if chance[1] < 0.06 else 1.0),
            gamma=float(np.exp(rng.normal(0.0, 0.12))),
            fog=rng.uniform(0.01, 0.09),
            gradient=(rng.uniform(-0.06, 0.06), rng.uniform(-0.10, 0.10)),
            grain=rng.uniform(0.006, 0.016),
            blur=rng.uniform(0.0008, 0.0020),
            collimation_margin=margin if chance[2] < 0.35 else None,
            collimation_degrees=rng.uniform(-4, 4),
            outside_grey=outside + (0.2 if chance[3] < 0.25 else 0.0),
            marker_corner=int(rng.integers(4)),
            marker_size=rng.uniform(0.05, 0.08),
            marker_turn_degrees=rng.uniform(-25, 25),
            is_inverted=bool(chance[4] < 0.03),
        )


def render_hand(
    bone_age_months: float, sex: Sex, seed: int, height_px: int = 256, width_px: int = 208
) -> npt.NDArray[np.uint8]:
    """Draw a hand radiograph.

    One seed is one child in one picture: with another age or sex only the stage of the skeleton changes.

    Args:
        bone_age_months: 0 to 240 months; data sets use 6 to 216.
        sex: M or F; the same stage comes earlier in F.
        seed: Any non-negative integer.
        height_px, width_px: Size of the picture, at least 64 each.
    Returns:
        Grey levels `[height_px, width_px]`, bones bright unless inverted. The same bytes for the same arguments on one
        machine and set of packages; another processor may round a few pixels differently.
    Raises:
        ValueError: Age, sex or size is not one of these.
    """
    if not 0 <= bone_age_months <= MAX_BONE_AGE_MONTHS:
        raise ValueError(f"bone age is {bone_age_months} months, expected 0 to 240")
    if sex not in ("M", "F"):
        raise ValueError(f"sex is '{sex}', expected M or F")
    if min(height_px, width_px) < 64:
        raise ValueError(f"size is {height_px} x {width_px} px, expected at least 64 each")
    rng = np.random.default_rng(seed)
    hand = grow_hand(bone_age_months, sex, rng)
    acquisition = _Acquisition.draw(rng)
    finer = -(-_DRAWN_HEIGHT_PX // height_px)
    to_px, px_per_mm = _placement(hand, acquisition, height_px * finer, width_px * finer)
    soft = _soft_tissue(hand, to_px, px_per_mm, height_px * finer, width_px * finer)
    bone = np.zeros_like(soft)
    for part in hand.bones:
        _add_bone(bone, part, to_px, px_per_mm)
    thickness = (0.26 + 0.05 * (1 - hand.maturity)) * soft + (0.55 + 0.20 * hand.maturity) * bone
    thickness = cv2.GaussianBlur(thickness, (0, 0), acquisition.blur * height_px * finer)
    thickness = cv2.resize(thickness, (width_px, height_px), interpolation=cv2.INTER_AREA)
    return _develop(np.asarray(thickness, dtype=np.float32), acquisition, rng)


@dataclass(frozen=True)
class _ToPixels:
    """From hand millimetres to pixels of the drawing: `matrix @ point + offset`."""

    matrix: Points
    offset: Points

    def __call__(self, points_mm: Points) -> Points:
        return np.asarray(points_mm @ self.matrix.T + self.offset, dtype=np.float64)


def _placement(hand: Hand, acquisition: _Acquisition, height_px: int, width_px: int) -> tuple[_ToPixels, float]:
    """Fit what matters (fingertips to just below the wrist) into the frame; also returns pixels per millimetre."""
    angle = np.deg2rad(acquisition.rotation_degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag([-1.0 if acquisition.is_right else 1.0, -1.0])
    wrist, elbow = hand.forearm_mm
    corners = [wrist + 0.24 * (elbow - wrist) + np.array([x, 0.0]) for x in (-26.0, 26.0)]
    landmarks = np.concatenate([*hand.rays_mm, np.stack(corners)]) @ matrix.T
    low, high = landmarks.min(axis=0) - 7.0, landmarks.max(axis=0) + np.array([7.0, 0.0])
    frame = np.array([width_px, height_px], dtype=np.float64)
    px_per_mm = float(acquisition.fill * (frame / (high - low)).min())
    slack = frame - px_per_mm * (high - low)
    corner = slack / 2 * (1 + np.array(acquisition.shift) * np.array([0.8, 0.3]))
    corner[1] = slack[1] - 0.3 * corner[1]
    return _ToPixels(px_per_mm * matrix, corner - px_per_mm * low), px_per_mm


def _soft_tissue(hand: Hand, to_px: _ToPixels, px_per_mm: float, height_px: int, width_px: int) -> Film:
    """Relative thickness of the soft tissue, 0 to about 1; plumper in the young. Drawn at a quarter of the size."""
    coarse = 4
    mask = np.zeros((height_px // coarse, width_px // coarse), dtype=np.uint8)
    plump = 1.12 - 0.17 * hand.maturity
    joints = [to_px(ray) / coarse for ray in hand.rays_mm]
    scale = px_per_mm / coarse * plump

    def fill(points: Points, radii_mm: tuple[float, ...]) -> None:
        discs = [point + radius * scale * _DISC for point, radius in zip(points, radii_mm, strict=True)]
        hull = cv2.convexHull(np.concatenate(discs).astype(np.float32))
        cv2.fillConvexPoly(mask, np.round(hull * 16).astype(np.int32), 255, shift=4)

    for number, ray in enumerate(joints):
        radii = (12.5, 11.0, 9.0, 7.5) if number == 0 else (9.0, 9.0, 8.3, 7.2, 6.2)
        for start in range(0 if number == 0 else 1, len(ray) - 1):
            fill(ray[start : start + 2], radii[start : start + 2])
    wrist, elbow = to_px(hand.forearm_mm) / coarse
    sideways = (to_px(np.array([[24.0, -34.0]])) / coarse - wrist)[0]
    sides = np.stack([wrist + sideways, wrist - sideways])
    fill(np.stack([*(ray[1] for ray in joints[1:]), *sides]), (10.0, 10.0, 9.5, 9.5, 4.0, 4.0))
    fill(np.stack([joints[0][0], joints[0][1], joints[1][1], sides[0]]), (9.0, 8.0, 5.0, 4.0))
    fill(np.stack([*sides, elbow + 1.3 * sideways, elbow - 1.3 * sideways]), (6.0, 6.0, 8.0, 8.0))
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 3) / scale
    thickness = np.sqrt(np.clip(depth / 14.0, 0.0, 1.0)) * 0.75 + 0.25 * np.clip(depth / 30.0, 0.0, 1.0)
    thickness = cv2.GaussianBlur(thickness.astype(np.float32), (0, 0), 0.8)
    return np.asarray(cv2.resize(thickness, (width_px, height_px), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


_DISC = np.stack([np.cos(np.linspace(0, 2 * np.pi, 20)), np.sin(np.linspace(0, 2 * np.pi, 20))], axis=1)


def _add_bone(film: Film, bone: Bone, to_px: _ToPixels, px_per_mm: float) -> None:
    """Add a bone's thickness: a dense wall, spongiosa within, nothing in the growth plate. Changes `film`."""
    outlines = [to_px(outline) for outline in bone.outlines_mm]
    every = np.concatenate(outlines)
    size = np.array(film.shape[::-1])
    low = np.clip(np.floor(every.min(axis=0)).astype(int) - 3, 0, size)
    high = np.clip(np.ceil(every.max(axis=0)).astype(int) + 3, 0, size)
    if (high <= low).any():
        return
    mask = np.zeros((high[1] - low[1], high[0] - low[0]), dtype=np.uint8)
    for outline in outlines:
        cv2.fillPoly(mask, [np.round((outline - low) * 16).astype(np.int32)], 255, shift=4)
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
    wall = bone.cortex_mm * px_per_mm
    body = np.minimum(depth / (2.5 * wall), 1.0)
    cortex = np.exp(-(((depth - wall) / (0.8 * wall)) ** 2))
    added = np.where(depth > 0, 0.26 + 0.26 * body + 0.46 * cortex, 0.0).astype(np.float32)
    if bone.scar_strength > 0.05:
        ends = np.round((to_px(bone.scar_mm) - low) * 16).astype(int)
        line = np.zeros_like(added)
        cv2.line(line, ends[0].tolist(), ends[1].tolist(), 0.22 * bone.scar_strength, 2, cv2.LINE_8, 4)
        added += line
    film[low[1] : high[1], low[0] : high[0]] += added


def _develop(thickness: Film, acquisition: _Acquisition, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Film curve, gradient, noise, marker, borders, inversion."""
    height_px, width_px = thickness.shape
    quantum = rng.standard_normal(thickness.shape, dtype=np.float32)
    coarse = rng.standard_normal((height_px // 2 + 1, width_px // 2 + 1), dtype=np.float32)
    grain = cv2.resize(coarse, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    grey = (1.0 - np.exp(-1.55 * acquisition.gain * thickness)) ** acquisition.gamma
    grey = acquisition.fog + (0.98 - acquisition.fog) * grey
    across = np.linspace(-1, 1, width_px, dtype=np.float32)
    down = np.linspace(-1, 1, height_px, dtype=np.float32)[:, None]
    grey = grey * (1.0 + acquisition.gradient[0] * across + acquisition.gradient[1] * down)
    grey += acquisition.grain * (0.5 + grey) * quantum + 0.6 * acquisition.grain * grain
    film = np.asarray(grey, dtype=np.float32)
    _place_marker(film, thickness, acquisition)
    _collimate(film, acquisition)
    levels = np.round(np.clip(film, 0.0, 1.0) * 255).astype(np.uint8)
    return 255 - levels if acquisition.is_inverted else levels


def _place_marker(film: Film, thickness: Film, acquisition: _Acquisition) -> None:
    """A lead letter on a plate, in the corner chosen or the next one that is free of the hand. Changes `film`."""
    height_px, width_px = film.shape
    side = max(9, round(acquisition.marker_size * min(height_px, 1.2 * width_px)))
    near, far_x, far_y = side, width_px - side, height_px - side
    places = [(near, near), (near, far_y), (far_x, far_y), (far_x, near)]
    places = places[acquisition.marker_corner :] + places[: acquisition.marker_corner]
    covered = [float(thickness[max(y - side, 0) : y + side, max(x - side, 0) : x + side].mean()) for x, y in places]
    x, y = places[int(np.argmin(np.round(covered, 2)))]
    angle = np.deg2rad(acquisition.marker_turn_degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    strokes = (_PLATE, _LETTER_R if acquisition.is_right else _LETTER_L)
    plate_px, letter_px = (np.round((side + side * stroke @ turn) * 16).astype(np.int32) for stroke in strokes)
    lead = np.zeros((2 * side, 2 * side), dtype=np.uint8)
    cv2.fillPoly(lead, [plate_px], 40, shift=4)
    cv2.polylines(lead, [letter_px], False, 240, max(1, side // 6), cv2.LINE_AA, 4)
    patch = film[y - side : y + side, x - side : x + side]
    np.maximum(patch, lead.astype(np.float32) / 255, out=patch)


_PLATE = np.array([[-0.5, -0.7], [0.5, -0.7], [0.5, 0.7], [-0.5, 0.7]])
_LETTER_L = np.array([[-0.18, -0.38], [-0.18, 0.38], [0.25, 0.38]])
_LETTER_R = np.array(
    [[-0.2, 0.38], [-0.2, -0.38], [0.08, -0.38], [0.22, -0.28], [0.22, -0.1], [0.08, 0.0], [-0.2, 0.0], [0.24, 0.38]]
)


def _collimate(film: Film, acquisition: _Acquisition) -> None:
    """Shutters: a turned rectangle outside which the film is even. Changes `film`."""
    if acquisition.collimation_margin is None:
        return
    height_px, width_px = film.shape
    open_share = 1.0 - 2 * acquisition.collimation_margin
    size = (open_share * width_px, open_share * height_px)
    box = cv2.boxPoints(((width_px / 2, height_px / 2), size, acquisition.collimation_degrees))
    mask = np.zeros(film.shape, dtype=np.uint8)
    cv2.fillConvexPoly(mask, np.round(box * 16).astype(np.int32), 1, shift=4)
    film[mask == 0] = acquisition.outside_grey


@dataclass(frozen=True)
class _Radiograph:
    """One row to be: what to draw."""

    image_id: str
    patient_id: str
    sex: Sex
    bone_age_months: int
    seed: int


def _plan(settings: SyntheticData) -> list[_Radiograph]:
    """Who is drawn at which age; the first rows stay the same when `n` grows.

    Sexes alternate. Four of five ages are normal (mean 120, SD 42 months), one even over the whole range. One patient
    in 20 returns after one or two years.
    """
    rows: list[_Radiograph] = []
    patient = 0
    while len(rows) < settings.n:
        rng = np.random.default_rng((settings.seed, patient))
        sex: Sex = "F" if patient % 2 == 0 else "M"
        even, normal = rng.uniform(YOUNGEST_MONTHS, OLDEST_MONTHS), rng.normal(120.0, 42.0)
        is_normal, returns = rng.random() < 0.8, rng.random() < 0.05
        fits = is_normal and YOUNGEST_MONTHS <= normal <= OLDEST_MONTHS
        ages = [round(normal if fits else even)]
        if returns:
            ages.append(min(ages[0] + int(rng.integers(12, 25)), OLDEST_MONTHS))
        for visit, age in enumerate(ages):
            image_id = f"S{patient:06d}-{visit + 1}"
            rows.append(_Radiograph(image_id, f"P{patient:06d}", sex, age, int(rng.integers(2**32))))
        patient += 1
    return rows[: settings.n]


def synthetic_key(settings: SyntheticData) -> str:
    """Twelve hexadecimal digits naming a synthetic data set: its settings and the generator's version."""
    return digest_of(settings.model_dump(mode="json") | {"generator_version": GENERATOR_VERSION})[:12]


def write_synthetic(parent: Path, settings: SyntheticData) -> Path:
    """Write a synthetic data set, or find it already written.

    It is drawn in a hidden folder beside its place and renamed when whole, so the name never stands for half a data
    set; of two processes that draw the same one, the later finds the earlier's and drops its own. Some 15 ms each.

    Args:
        parent: Folder to write into; made if absent.
        settings: How many, from which seed, of which size.
    Returns:
        `parent/synthetic-KEY` with `manifest.csv` (image, sex, bone_age_months, patient_id), `images/` and a note.
    Raises:
        InputError: `parent` cannot be written, or the data set there has lost files since.
        BoneAgeError: Writing failed on the way, for instance on a full disk.
    """
    folder = parent / f"synthetic-{synthetic_key(settings)}"
    rows = _plan(settings)
    if folder.exists():
        return _checked(folder, rows)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        workplace = tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise InputError(f"{parent}: cannot be written: {error.strerror}") from None
    with workplace as temporary:
        drawn = Path(temporary) / folder.name
        try:
            _write(drawn, rows, settings)
        except OSError as error:
            raise BoneAgeError(f"{folder}: cannot be written: {error.strerror}") from None
        try:
            drawn.rename(folder)
        except OSError as error:
            if not folder.exists():
                raise BoneAgeError(f"{folder}: cannot be written: {error.strerror}") from None
    return _checked(folder, rows)


def _write(folder: Path, rows: list[_Radiograph], settings: SyntheticData) -> None:
    (folder / "images").mkdir(parents=True)

    def draw(row: _Radiograph) -> None:
        image = render_hand(row.bone_age_months, row.sex, row.seed, settings.height_px, settings.width_px)
        _, png = cv2.imencode(".png", image)
        (folder / "images" / f"{row.image_id}.png").write_bytes(png.tobytes())

    map_in_threads(draw, rows, "Drawing synthetic hands")
    (folder / "README.txt").write_text(_NOTE)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image", "sex", "bone_age_months", "patient_id"))
        writer.writerows((f"images/{row.image_id}.png", row.sex, row.bone_age_months, row.patient_id) for row in rows)


def _checked(folder: Path, rows: list[_Radiograph]) -> Path:
    """The folder, if every file of it is there and not empty."""
    try:
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder / "images")}
        sizes["manifest.csv"] = (folder / "manifest.csv").stat().st_size
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}; delete {folder} and run again") from None
    for name in ("manifest.csv", *(f"{row.image_id}.png" for row in rows)):
        if not sizes.get(name):
            raise InputError(f"{folder}: {name} is absent or empty; delete the folder and run again")
    return folder
