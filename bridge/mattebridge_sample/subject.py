"""One frame of the subject: posed, lit, and exposed over the time that the shutter is open.

Body, scarf and hair move slowly and share a few moments of the exposure; the sweeping arm is
drawn at as many moments as its speed asks for. All sums are of premultiplied, linear light.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mattebridge_sample import figure, hair, lights, motion, room, scarf, shade
from mattebridge_sample.arrays import Array, dot, vec
from mattebridge_sample.optics import Camera, disc_blur
from mattebridge_sample.shade import Lighting
from mattebridge_sample.splat import (
    FAR,
    Canvas,
    Cloud,
    Layer,
    Surface,
    Window,
    by_depth,
    make_cloud,
    seen_columns,
)

FPS = 24.0
SHUTTER = 0.5  # share of a frame that the shutter is open
FACTOR = 2
# Where in a pixel each moment of the exposure samples it: a rotated grid.
JITTER = ((0.13, 0.62), (0.62, 0.87), (0.38, 0.12), (0.87, 0.38))


@dataclass(frozen=True)
class Cast:
    """What stays the same for all frames."""

    torso: figure.Part
    head: figure.Part
    neck: figure.Part
    ears: tuple[figure.Part, figure.Part]
    wrap: figure.Part
    strands: hair.Strands
    probe: Array


@dataclass(frozen=True)
class Exposure:
    """The subject over one exposure: premultiplied RGBA in a window, and what it does to light."""

    window: Window
    rgba: Array
    lighting: Lighting


@lru_cache(maxsize=2)
def make_cast(seed: int, strands: int) -> Cast:
    """Model the subject once, and measure the bounced light where she stands."""
    x, _, z = (float(v) for v in motion.STANDS_AT)
    probe = room.probe((x, 1.3, z), seed)
    return Cast(
        figure.torso(),
        figure.head(),
        figure.neck(),
        (figure.ear(-1.0), figure.ear(1.0)),
        scarf.wrap(),
        hair.grow(strands, seed),
        probe,
    )


@dataclass(frozen=True)
class _Pose:
    """Vertices of everything at one moment, in the order of `_body_parts` and `_arm_parts`."""

    body: list[Array]
    arm: list[Array]
    hair: Array
    tail: Array


def _pose(cast: Cast, t: float) -> _Pose:
    head = (cast.head, *cast.ears)
    trunk = (cast.torso, cast.neck, cast.wrap)
    body = [motion.torso_to_world(part.points, t) for part in trunk]
    body += [motion.head_to_world(part.points, t) for part in head]
    body += [part.points for part in figure.arm_parts(motion.right_arm(t), 1.0)]
    arm = [part.points for part in figure.arm_parts(motion.left_arm(t), -1.0)]
    return _Pose(body, arm, hair.at(cast.strands, t), scarf.tail(t))


def _body_parts(cast: Cast) -> list[figure.Part]:
    parts = [cast.torso, cast.neck, cast.wrap, cast.head, *cast.ears]
    return parts + figure.arm_parts(motion.right_arm(0.0), 1.0)


def _mix(a: Array, b: Array, share: float) -> Array:
    return np.asarray(a + np.float32(share) * (b - a), np.float32)


def _blobs(t: float) -> Array:
    """Spheres that stand for the body where only its bulk matters."""
    rows = []
    for x, y, z, r in (
        (0.0, 0.72, 0.0, 0.15),
        (-0.07, 0.92, 0.0, 0.115),
        (0.07, 0.92, 0.0, 0.115),
        (0.0, 1.06, 0.0, 0.115),
        (-0.06, 1.20, 0.0, 0.11),
        (0.06, 1.20, 0.0, 0.11),
        (-0.09, 1.34, -0.01, 0.085),
        (0.09, 1.34, -0.01, 0.085),
        (0.0, 1.36, -0.05, 0.10),
    ):
        rows.append([*motion.torso_to_world(vec([x, y, z]), t), r])
    rows.append([*motion.head_to_world(vec([0, 1.62, -0.015]), t), 0.115])
    rows.append([*motion.head_to_world(vec([0, 1.49, -0.05]), t), 0.095])
    for arm in (motion.left_arm(t), motion.right_arm(t)):
        for a, b in ((arm.shoulder, arm.elbow), (arm.elbow, arm.wrist)):
            for share in (0.3, 0.62, 0.95):
                rows.append(
                    [*(a + np.float32(share) * (b - a)), 0.045 if a is arm.shoulder else 0.036]
                )
        for share in (0.35, 0.65, 0.92):
            rows.append([*(arm.wrist + np.float32(share) * (arm.tip - arm.wrist)), 0.026])
    return np.asarray(rows, np.float32)


def _lighting(cast: Cast, poses: list[_Pose], middle: _Pose, t: float) -> Lighting:
    """All light for one frame; what moves fast shadows a little of the sun all along its way."""
    ways = [points for pose in poses for points in pose.arm]
    veils = [(middle.hair, 0.75), (middle.tail, 0.38)] + [(points, 0.35) for points in ways]
    still = _travel(poses) < 0.03
    sun = shade.sun_map(middle.body + (middle.arm if still else middle.arm[:1]), veils)
    centre = middle.hair.reshape(-1, 3).mean(0)
    directions = {
        "sun": lights.TO_SUN,
        "beside": shade.W_BESIDE - centre,
        "seen": shade.W_SEEN - centre,
        "lamp": lights.LAMP_AT - centre,
        "camera": shade.EYE - centre,
    }
    density = 156 / len(middle.hair)
    fogs = {
        name: shade.hair_fog(middle.hair, toward, density) for name, toward in directions.items()
    }
    return Lighting(sun, fogs, cast.probe, _blobs(t))


def _travel(poses: list[_Pose]) -> float:
    """How far in metres the fast hand gets while the shutter is open."""
    away = poses[-1].arm[-1] - poses[0].arm[-1]
    return float(np.sqrt((away * away).sum(-1)).max())


def _window(camera: Camera, poses: list[_Pose], pad: int) -> Window:
    clouds = []
    for pose in poses:
        clouds += [points.reshape(-1, 3) for points in pose.body + pose.arm]
        clouds += [pose.hair.reshape(-1, 3), pose.tail.reshape(-1, 3)]
    return _around(camera, clouds, Window(0, 0, camera.width, camera.height), pad)


def _around(camera: Camera, clouds: list[Array], limits: Window, pad: int) -> Window:
    x, y, _ = camera.project(np.concatenate(clouds))
    return Window(
        max(int(np.floor(x.min())) - pad, limits.x0),
        max(int(np.floor(y.min())) - pad, limits.y0),
        min(int(np.ceil(x.max())) + pad + 1, limits.x1),
        min(int(np.ceil(y.max())) + pad + 1, limits.y1),
    )


@dataclass(frozen=True)
class _Skin:
    """The side of a part that the camera can see, lit: its columns, colour, normals, weave."""

    columns: NDArray[np.int64]
    colour: Array
    normal: Array
    detail: Array | None

    def along(self, points: tuple[Array, Array, Array]) -> Surface:
        """The surface with the part's vertices at start, middle and end of the exposure."""
        a, b, c = (p[:, self.columns] for p in points)
        return Surface((a, b, c), self.colour, self.normal, self.detail)


def _light_skin(part: figure.Part, points: Array, light: Lighting) -> _Skin:
    normal = figure.normals(points)
    view = shade.EYE - points
    facing = dot(view, normal) / np.sqrt(dot(view, view))
    columns = seen_columns(facing)
    colour = shade.light_part(
        part.material, part.colour[:, columns], points[:, columns], normal[:, columns], light
    )
    detail = part.detail
    if detail is not None:
        wide = detail.shape[1] // points.shape[1]
        detail = detail[:, (columns[:, None] * wide + np.arange(wide)).reshape(-1)]
    return _Skin(columns, colour, normal[:, columns], detail)


def expose(camera: Camera, cast: Cast, t: float) -> Exposure:
    """The subject at frame time `t`, with motion blur, depth of field and coverage.

    The shutter is open for half a frame; between its ends all but the fast arm moves straight.
    """
    half = SHUTTER / FPS / 2
    poses = [_pose(cast, t - half), _pose(cast, t), _pose(cast, t + half)]
    first, middle, last = poses
    window = _window(camera, poses, pad=6)
    light = _lighting(cast, poses, middle, t)
    body = _cloud(camera, _body_parts(cast), [pose.body for pose in poses], light, straight=True)
    left = figure.arm_parts(motion.left_arm(t), -1.0)
    arm = _cloud(camera, left, [pose.arm for pose in poses], light, straight=False)
    strands = cast.strands
    locks = shade.light_hair(
        middle.hair, hair.tangents(middle.hair), strands.tone, strands.warmth, strands.along, light
    )
    cloth, tau = scarf.light_tail(middle.tail, light)
    count = _arm_moments(camera, poses)
    total = np.zeros((*window.shape, 4), np.float32)
    for number, jitter in enumerate(JITTER):
        share = (number + 0.5) / len(JITTER)
        canvas = Canvas(camera, window, FACTOR, jitter)
        canvas.draw(body, share)
        canvas.veil(_mix(first.tail, last.tail, share), cloth, tau)
        # Every strand is in two of the four moments: hair is thinner than half a pixel.
        some = slice(number % 2, None, 2)
        canvas.strands(
            _mix(first.hair[some], last.hair[some], share), locks[some], hair.spread_matrix
        )
        layer = canvas.layer()
        total += layer.rgba / np.float32(len(JITTER))
        for index in range(number * count, (number + 1) * count):
            moment = (index + 0.5) / (count * len(JITTER))
            front = _fast_layer(camera, window, arm, moment, JITTER[index % 4])
            _add_over(total, layer, front, count * len(JITTER))
    return Exposure(window, total, light)


def _cloud(
    camera: Camera,
    parts: list[figure.Part],
    poses: list[list[Array]],
    light: Lighting,
    *,
    straight: bool,
) -> Cloud:
    skins = [_light_skin(part, points, light) for part, points in zip(parts, poses[1])]
    surfaces = [skin.along(points) for skin, points in zip(skins, zip(*poses))]
    return make_cloud(camera, surfaces, FACTOR, straight)


def _arm_moments(camera: Camera, poses: list[_Pose]) -> int:
    """At how many moments the arm is drawn in each quarter of the exposure."""
    pixels = _travel(poses) * camera.focal_px / 2.0
    return int(np.clip(np.ceil(pixels / 1.5 / len(JITTER)), 1, 9))


@dataclass(frozen=True)
class _Placed:
    """A layer that covers a part of the window."""

    box: tuple[slice, slice]
    layer: Layer


def _fast_layer(
    camera: Camera, window: Window, cloud: Cloud, share: float, jitter: tuple[float, float]
) -> _Placed | None:
    """The sweeping arm at one moment, in its own depth of field."""
    x0, x1, y0, y1 = cloud.bounds()
    part = Window(
        max(int(x0) - 6, window.x0),
        max(int(y0) - 6, window.y0),
        min(int(x1) + 8, window.x1),
        min(int(y1) + 8, window.y1),
    )
    if part.x1 <= part.x0 or part.y1 <= part.y0:
        return None
    canvas = Canvas(camera, part, FACTOR, jitter)
    canvas.draw(cloud, share)
    layer = canvas.layer()
    middle = float(cloud.depth.mean())
    soft = disc_blur(layer.rgba, float(camera.blur_radius(middle)))
    depth = np.where(layer.depth < FAR / 2, layer.depth, np.where(soft[..., 3] > 1e-4, middle, FAR))
    box = (
        slice(part.y0 - window.y0, part.y1 - window.y0),
        slice(part.x0 - window.x0, part.x1 - window.x0),
    )
    return _Placed(box, Layer(soft, depth))


def _add_over(total: Array, back: Layer, front: _Placed | None, moments: int) -> None:
    """Put one moment of the arm before or behind what `back` already added to `total`."""
    if front is not None:
        behind = Layer(back.rgba[front.box], back.depth[front.box])
        total[front.box] += (by_depth(front.layer, behind) - behind.rgba) / np.float32(moments)
