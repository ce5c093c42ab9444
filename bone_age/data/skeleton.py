"""How a child's hand ossifies: the published ages, and the outlines of the bones they lead to.

A skeletal stage is a function of bone age and sex: a girl at 10 years shows what a boy shows at about 12. Only the ages
in `OSSIFICATION` are literature; everything between the appearance of a centre and its completion is a plain curve,
and the proportions are those of a generic adult hand. That is enough to develop, test and teach with, and no more: a
model trained on such hands knows nothing about children.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bone_age.data.manifest import Sex

Points = npt.NDArray[np.float64]

CENTRE_JITTER = 0.05
"""SD of the log of a factor on each centre's ages: centres of one hand disagree with each other by some 5 %."""


@dataclass(frozen=True)
class OssificationCentre:
    """When a centre is first seen, and when it is complete; months, girls first, then boys.

    Complete means united with the shaft for an epiphysis, and of adult size for a round bone.
    """

    appears_months: tuple[int, int]
    complete_months: tuple[int, int]

    def progress(self, bone_age_months: float, sex: Sex, jitter: float = 1.0) -> float:
        """0 at appearance, 1 at completion, linear in age; below 0 before, above 1 after. `jitter` scales both ages."""
        column = 0 if sex == "F" else 1
        appears, complete = self.appears_months[column] * jitter, self.complete_months[column] * jitter
        return (bone_age_months - appears) / (complete - appears)


# Complete union, in half-years: standards of Greulich & Pyle, Radiographic Atlas of Skeletal Development of the Hand
# and Wrist, 2nd ed. 1959, in the order distal, metacarpal, proximal, middle, ulna, radius that Gilsanz & Ratib, Hand
# Bone Age, 2005, describe for late and post-puberty (girls 13 to 17 years, boys 14 to 19).
_DISTAL, _METACARPAL, _PROXIMAL, _MIDDLE = (162, 186), (168, 192), (174, 192), (174, 198)
_ULNA, _RADIUS = (192, 210), (204, 222)
# Round bones take their adult shape towards the end of puberty (same atlas): 13 years in girls, 15 in boys.
_CARPAL, _LATE_ROUND_BONE = (156, 180), (162, 186)

# Appearance: medians of Garn, Rohmann & Silverman, Radiographic standards for postnatal ossification and tooth
# calcification, Medical Radiography and Photography 1967;43:45-66 (there in years and months). The pisiform is not in
# that table: 9 and 12 years, Gray's Anatomy, 20th ed. 1918.
OSSIFICATION: dict[str, OssificationCentre] = {
    "capitate": OssificationCentre((2, 3), _CARPAL),
    "hamate": OssificationCentre((2, 4), _CARPAL),
    "triquetrum": OssificationCentre((21, 29), _CARPAL),
    "lunate": OssificationCentre((31, 49), _CARPAL),
    "scaphoid": OssificationCentre((49, 68), _CARPAL),
    "trapezium": OssificationCentre((49, 70), _CARPAL),
    "trapezoid": OssificationCentre((50, 75), _CARPAL),
    "pisiform": OssificationCentre((108, 144), _LATE_ROUND_BONE),
    "thumb_sesamoid": OssificationCentre((129, 153), _LATE_ROUND_BONE),
    "radius": OssificationCentre((10, 13), _RADIUS),
    "ulna": OssificationCentre((64, 85), _ULNA),
    "metacarpal_1": OssificationCentre((19, 31), _METACARPAL),
    "metacarpal_2": OssificationCentre((13, 19), _METACARPAL),
    "metacarpal_3": OssificationCentre((14, 21), _METACARPAL),
    "metacarpal_4": OssificationCentre((15, 24), _METACARPAL),
    "metacarpal_5": OssificationCentre((16, 26), _METACARPAL),
    "proximal_1": OssificationCentre((21, 36), _PROXIMAL),
    "proximal_2": OssificationCentre((10, 17), _PROXIMAL),
    "proximal_3": OssificationCentre((10, 16), _PROXIMAL),
    "proximal_4": OssificationCentre((11, 18), _PROXIMAL),
    "proximal_5": OssificationCentre((14, 22), _PROXIMAL),
    "middle_2": OssificationCentre((16, 26), _MIDDLE),
    "middle_3": OssificationCentre((15, 24), _MIDDLE),
    "middle_4": OssificationCentre((15, 25), _MIDDLE),
    "middle_5": OssificationCentre((24, 41), _MIDDLE),
    "distal_1": OssificationCentre((12, 18), _DISTAL),
    "distal_2": OssificationCentre((30, 38), _DISTAL),
    "distal_3": OssificationCentre((18, 29), _DISTAL),
    "distal_4": OssificationCentre((18, 29), _DISTAL),
    "distal_5": OssificationCentre((24, 39), _DISTAL),
}


@dataclass(frozen=True)
class _Shape:
    """What distinguishes the kinds of long bone; lengths in shares of the metaphysis' width.

    `profile` is the shaft's width at eight places from the growing end (0) to the other (1).
    """

    profile: tuple[float, ...]
    epiphysis_depth: float
    epiphysis_squareness: float = 2.6
    epiphysis_tilt: float = 0.0
    grows_distally: bool = False

    @cached_property
    def smooth_profile(self) -> Points:
        corners = np.interp(_FINE_PLACES, _PLACES, self.profile)
        rounding = np.hanning(17) / np.hanning(17).sum()
        return np.convolve(np.pad(corners, 8, mode="edge"), rounding, mode="valid")


_PLACES = (0.0, 0.07, 0.18, 0.35, 0.55, 0.78, 0.93, 1.0)
_FINE_PLACES = np.linspace(0.0, 1.0, 101)
_ALONG = (1 - np.cos(np.linspace(0.0, np.pi, 26))) / 2
_CIRCLE = np.linspace(0.0, 2 * np.pi, 30, endpoint=False)
_PHALANX = _Shape((1.0, 0.95, 0.78, 0.62, 0.57, 0.62, 0.78, 0.72), epiphysis_depth=0.36)
_FINGERTIP = _Shape((1.0, 0.90, 0.66, 0.48, 0.42, 0.44, 0.66, 0.56), epiphysis_depth=0.36)
_THUMB_METACARPAL = _Shape((1.0, 0.95, 0.80, 0.68, 0.62, 0.70, 0.90, 0.82), epiphysis_depth=0.40)
_METACARPAL_SHAPE = _Shape(
    (1.0, 0.95, 0.74, 0.57, 0.53, 0.66, 0.86, 0.82), epiphysis_depth=0.62, epiphysis_squareness=2.2, grows_distally=True
)
_RADIUS_SHAPE = _Shape(
    (1.0, 0.96, 0.78, 0.58, 0.50, 0.48, 0.48, 0.48), epiphysis_depth=0.30, epiphysis_tilt=0.30, grows_distally=True
)
_ULNA_SHAPE = _Shape(
    (1.0, 0.94, 0.82, 0.72, 0.68, 0.68, 0.70, 0.70), epiphysis_depth=0.42, epiphysis_tilt=-0.25, grows_distally=True
)


@dataclass(frozen=True)
class _Ray:
    """One finger with its metacarpal, in mm of an adult left hand from the back (thumb at +x, fingertips at +y)."""

    base_mm: tuple[float, float]
    metacarpal_degrees: float
    finger_degrees: float
    lengths_mm: tuple[float, ...]
    widths_mm: tuple[float, ...]


# Proportions of a generic adult; the origin is the base of the third metacarpal.
_RAYS = (
    _Ray((21.0, -8.0), 40.0, 33.0, (46.0, 33.0, 25.0), (15.0, 14.5, 13.0)),
    _Ray((12.0, 1.0), 10.0, 15.0, (67.0, 41.0, 25.0, 18.5), (14.8, 14.5, 12.5, 10.0)),
    _Ray((0.5, 0.5), 1.0, 3.0, (64.0, 45.0, 29.5, 19.0), (14.8, 15.0, 13.0, 10.5)),
    _Ray((-9.5, -2.0), -8.0, -8.0, (57.0, 42.0, 28.0, 19.0), (13.4, 14.0, 12.0, 10.0)),
    _Ray((-18.0, -6.0), -17.0, -20.0, (53.0, 33.5, 20.0, 17.0), (13.0, 12.0, 10.0, 9.0)),
)
_ROUND_BONES: dict[str, tuple[float, float, float, float, float]] = {  # centre x, y, width, height (mm), turn (degrees)
    "capitate": (0.5, -12.5, 14.0, 24.0, 0.0),
    "hamate": (-11.5, -13.5, 15.5, 20.0, 15.0),
    "triquetrum": (-15.5, -27.0, 12.0, 14.5, -35.0),
    "lunate": (-3.0, -29.5, 15.5, 13.0, 8.0),
    "scaphoid": (11.0, -25.0, 13.0, 24.0, -40.0),
    "trapezium": (20.5, -15.0, 14.5, 14.5, 25.0),
    "trapezoid": (11.5, -8.5, 11.5, 12.0, 0.0),
    "pisiform": (-18.5, -23.0, 9.0, 11.0, 0.0),
}
_RADIUS_END_MM, _RADIUS_WIDTH_MM = (10.5, -36.5), 29.0
_ULNA_END_MM, _ULNA_WIDTH_MM = (-14.0, -38.5), 16.0
_FOREARM_MM = 150.0


@dataclass(frozen=True)
class Bone:
    """What of a bone is calcified.

    Attributes:
        name: As in `OSSIFICATION`.
        outlines_mm: Closed outlines `[K, 2]`; the bone is their union, and what lies between two of them is a growth
            plate.
        cortex_mm: Thickness of the dense wall.
        scar_mm: End points `[2, 2]` of the dense line that a closing growth plate leaves.
        scar_strength: 0 (none) to 1.
    """

    name: str
    outlines_mm: tuple[Points, ...]
    cortex_mm: float
    scar_mm: Points
    scar_strength: float = 0.0


@dataclass(frozen=True)
class Hand:
    """A left hand seen from the back, in mm of an adult: the younger hand differs in stage, not in size.

    Attributes:
        bones: Those with anything calcified.
        rays_mm: For each finger from the thumb, its joints from metacarpal base to fingertip, `[J, 2]`.
        forearm_mm: Middle of the wrist, and a point up the forearm, `[2, 2]`.
        maturity: Mean progress of all centres, 0 to 1.
    """

    bones: tuple[Bone, ...]
    rays_mm: tuple[Points, ...]
    forearm_mm: Points
    maturity: float


def grow_hand(bone_age_months: float, sex: Sex, rng: np.random.Generator) -> Hand:
    """Draw an individual from `rng` and let it reach a bone age.

    The draws are the same at every age and for both sexes, so one generator state is one child at all ages.
    """
    jitter = np.exp(rng.normal(0.0, CENTRE_JITTER, len(OSSIFICATION)))
    progress = {
        name: centre.progress(bone_age_months, sex, factor)
        for (name, centre), factor in zip(OSSIFICATION.items(), jitter, strict=True)
    }
    maturity = float(np.clip(list(progress.values()), 0.0, 1.0).mean())
    robustness = float(np.exp(rng.normal(0.0, 0.05)))
    bones: list[Bone] = []
    rays: list[Points] = []
    splay = rng.normal(0.0, 2.0) + np.sort(rng.normal(0.0, 3.0, len(_RAYS)))[::-1]
    for number, (ray, turn) in enumerate(zip(_RAYS, splay, strict=True), start=1):
        ray_bones, joints = _grow_ray(number, ray, float(turn), robustness, progress, maturity, rng)
        bones += ray_bones
        rays.append(joints)
    tilt = float(rng.normal(0.0, 5.0))
    bones += _grow_forearm(tilt, robustness, progress, maturity)
    for name, (x, y, width, height, turn_degrees) in _ROUND_BONES.items():
        lobes = rng.normal(0.0, 1.0, 4)
        bones += _round_bone(name, np.array([x, y]), (width, height), turn_degrees, progress[name], lobes)
    knuckle, axis = rays[0][1], _unit(_RAYS[0].metacarpal_degrees)
    beside = knuckle - 4.0 * axis + 6.5 * np.array([-axis[1], axis[0]])
    bones += _round_bone("thumb_sesamoid", beside, (5.0, 5.5), 0.0, progress["thumb_sesamoid"], np.zeros(4))
    wrist = np.array([0.0, -34.0])
    return Hand(tuple(bones), tuple(rays), np.stack([wrist, wrist - _FOREARM_MM * _unit(tilt)]), maturity)


def _grow_ray(
    number: int,
    ray: _Ray,
    turn_degrees: float,
    robustness: float,
    progress: dict[str, float],
    maturity: float,
    rng: np.random.Generator,
) -> tuple[list[Bone], Points]:
    names = ("metacarpal", "proximal", "distal") if number == 1 else ("metacarpal", "proximal", "middle", "distal")
    shapes = dict.fromkeys(names, _PHALANX) | {"distal": _FINGERTIP}
    shapes["metacarpal"] = _THUMB_METACARPAL if number == 1 else _METACARPAL_SHAPE
    lengths = np.array(ray.lengths_mm) * np.exp(rng.normal(0.0, 0.025, len(names)))
    bends = rng.normal(0.0, 1.5, len(names))
    joint = np.array(ray.base_mm)
    joints, bones = [joint], []
    for name, length, width, bend in zip(names, lengths, ray.widths_mm, bends, strict=True):
        in_palm = name == "metacarpal"
        angle = ray.metacarpal_degrees + 0.3 * turn_degrees if in_palm else ray.finger_degrees + turn_degrees
        direction = _unit(angle + bend)
        end = joint + length * direction
        shape = shapes[name]
        growing, towards = (end, -direction) if shape.grows_distally else (joint, direction)
        centre = f"{name}_{number}"
        size = (float(length), width * robustness)
        bones.append(_long_bone(centre, shape, growing, towards, *size, progress[centre], maturity))
        joint = end
        joints.append(joint)
    return bones, np.stack(joints)


def _grow_forearm(tilt_degrees: float, robustness: float, progress: dict[str, float], maturity: float) -> list[Bone]:
    down = -_unit(tilt_degrees)
    return [
        _long_bone(name, shape, np.array(end), down, _FOREARM_MM, width * robustness, progress[name], maturity)
        for name, shape, end, width in (
            ("radius", _RADIUS_SHAPE, _RADIUS_END_MM, _RADIUS_WIDTH_MM),
            ("ulna", _ULNA_SHAPE, _ULNA_END_MM, _ULNA_WIDTH_MM),
        )
    ]


def _long_bone(
    name: str,
    shape: _Shape,
    growing_end: Points,
    towards: Points,
    length: float,
    width: float,
    done: float,
    maturity: float,
) -> Bone:
    """Shaft, epiphysis and what joins them, laid out from the growing end; `done` is the epiphysis' progress.

    Young bones end far from their neighbours (the rest is cartilage, which a radiograph does not show), have thick
    waists and thin walls. The plate narrows from 0.18 to 0.1 of the width until three quarters of the way, then closes
    from its middle.
    """
    youth = 1.0 - maturity
    joint = 0.6 + 1.6 * youth
    depth = shape.epiphysis_depth * width
    closing = float(np.clip((done - 0.75) / 0.25, 0.0, 1.0))
    plate = width * (0.18 - 0.08 * float(np.clip(done / 0.75, 0.0, 1.0))) * (1.0 - closing)
    shaft_start = joint + depth + plate
    shaft_end = length - joint
    outlines = [_shaft(shape, shaft_start, shaft_end, width, youth)]
    if done > 0:
        size = 0.30 + 0.70 * min(done / 0.55, 1.0) ** 0.8
        across = width * size * (1.0 + 0.05 * min(done, 1.0))
        outlines.append(
            _superellipse(joint + depth / 2, depth * size, across, shape.epiphysis_squareness, shape.epiphysis_tilt)
        )
    if closing > 0.2:
        half = 0.47 * width * (closing - 0.2) / 0.8
        near, far = joint + 0.6 * depth, shaft_start + 1.0
        outlines.append(np.array([[near, half], [far, half], [far, -half], [near, -half]]))
    scar = np.array([[joint + depth, 0.4 * width], [joint + depth, -0.4 * width]])
    return Bone(
        name=name,
        outlines_mm=tuple(_place(outline, growing_end, towards) for outline in outlines),
        cortex_mm=width * (0.06 + 0.06 * maturity),
        scar_mm=_place(scar, growing_end, towards),
        scar_strength=closing * float(np.exp(-6.0 * max(done - 1.0, 0.0))),
    )


def _round_bone(
    name: str, centre: Points, size: tuple[float, float], turn_degrees: float, done: float, lobes: Points
) -> list[Bone]:
    """A carpal or sesamoid: a round nodule at first, its own shape at the end; none before it appears."""
    if done <= 0:
        return []
    grown = min(done, 1.0)
    diameter = 0.28 + 0.72 * grown**0.75
    waves = lobes[0] * np.cos(2 * _CIRCLE + lobes[1]) + 0.7 * lobes[2] * np.cos(3 * _CIRCLE + lobes[3])
    bumps = 1.0 + 0.05 * grown * waves
    mean = (size[0] + size[1]) / 2
    across, along = (mean + (side - mean) * grown for side in size)
    ellipse = np.stack([along / 2 * np.cos(_CIRCLE), across / 2 * np.sin(_CIRCLE)], axis=1)
    outline = ellipse * (diameter * bumps)[:, None]
    cortex = 0.10 * min(size)
    return [Bone(name, (_place(outline, centre, _unit(turn_degrees)),), cortex, np.zeros((2, 2)))]


def _shaft(shape: _Shape, start: float, end: float, width: float, youth: float) -> Points:
    """Outline of a shaft with rounded ends, from the growing end; of a forearm the profile covers the first 60 mm."""
    along = start + (end - start) * _ALONG
    profile = np.interp((along - start) / min(end - start, 60.0), _FINE_PLACES, shape.smooth_profile)
    half = width / 2 * (profile + 0.30 * youth * (1.0 - profile))
    to_the_end = np.minimum(along - start, end - along) / (0.10 * width)
    half = half * (1.0 - 0.45 * np.clip(1.0 - to_the_end, 0.0, 1.0) ** 2)
    return np.concatenate([np.stack([along, half], axis=1), np.stack([along, -half], axis=1)[::-1]])


def _superellipse(centre: float, depth: float, width: float, squareness: float, tilt: float) -> Points:
    cos, sin = np.cos(_CIRCLE), np.sin(_CIRCLE)
    across = np.sign(sin) * np.abs(sin) ** (2 / squareness)
    along = np.sign(cos) * np.abs(cos) ** (2 / squareness)
    return np.stack([centre + depth / 2 * along * (1 + tilt * across), width / 2 * across], axis=1)


def _unit(degrees: float) -> Points:
    """Unit vector at an angle from +y towards the thumb (+x)."""
    return np.array([np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))])


def _place(outline: Points, origin: Points, towards: Points) -> Points:
    """From (along, across) to hand coordinates; +across is the thumb's side of a bone that points to the wrist."""
    sideways = np.array([-towards[1], towards[0]])
    return np.asarray(origin + outline[:, :1] * towards + outline[:, 1:] * sideways, dtype=np.float64)
