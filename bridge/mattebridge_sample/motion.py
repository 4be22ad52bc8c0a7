"""How the subject of the sample shot moves: joints as smooth functions of time in seconds.

She stands with one hand on the sideboard, looks back over her shoulder toward the window and
sweeps the other arm up. World space as in `optics.py`; her own axes are right, up and forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mattebridge_sample.arrays import Array, vec

NECK = np.array([0.0, 1.47, -0.005], np.float32)
SHOULDER = 0.172  # half the distance between the joints
STANDS_AT = np.array([-0.15, 0.0, 2.03], np.float32)
GESTURE_S = 1.15  # all of it; speeds are zero at both ends
REST_HAND = np.array([0.365, 0.938, 2.08], np.float32)


def ease(t: float, start: float, end: float) -> float:
    """0 before `start`, 1 after `end`, with zero speed and acceleration at both."""
    x = min(max((t - start) / (end - start), 0.0), 1.0)
    return x * x * x * (x * (6 * x - 15) + 10)


def gesture(t: Array | float) -> Array:
    """The time within the gesture: it is played forward, then backward, and so on."""
    t = np.asarray(t, np.float32)
    return np.asarray(np.abs((t + GESTURE_S) % (2 * GESTURE_S) - GESTURE_S), np.float32)


def yaw(angle: Array | float) -> Array:
    """Rotation matrices (..., 3, 3): her axes -> world when she faces `angle` to camera left."""
    a = np.asarray(angle, np.float32)
    c, s, o, i = np.cos(a), np.sin(a), np.zeros_like(a), np.ones_like(a)
    rows = [np.stack([c, o, -s], -1), np.stack([o, i, o], -1), np.stack([s, o, c], -1)]
    return np.asarray(np.stack(rows, -2), np.float32)


def hips_yaw(t: float) -> float:
    """Where the hips face, radians to camera left of straight away from the camera."""
    return 0.34 + 0.10 * ease(t, 0.05, 0.80)


def chest_yaw(t: float) -> float:
    """Where the chest faces."""
    return 0.40 + 0.26 * ease(t, 0.08, 0.78)


def head_yaw(t: float) -> float:
    """Where the face looks."""
    return 0.55 + 0.68 * ease(t, 0.02, 0.66) - 0.06 * ease(t, 0.66, 1.05)


def base(t: float) -> Array:
    """Where she stands; weight shifts from one foot to the other."""
    shift = 0.040 * ease(t, 0.0, 0.9)
    return STANDS_AT + vec([-shift, 0.006 * np.sin(2.4 * t), -0.25 * shift])


def sway(height: Array, t: float) -> Array:
    """Sideways and forward lean (..., 3) of the body at a height, in world space."""
    up = np.maximum(height - 0.85, 0)
    lean = np.stack(
        [-0.02 - 0.04 * np.float32(ease(t, 0, 0.9)) + 0 * up, 0 * up, 0.03 + 0 * up], -1
    )
    return np.asarray(up[..., None] * lean, np.float32)


def torso_to_world(points: Array, t: float) -> Array:
    """Points (..., 3) of the upright body -> world: twisted from hips to chest, and leaning."""
    t = float(gesture(t))
    share = np.clip((points[..., 1] - 0.88) / 0.42, 0, 1)
    share = share * share * (3 - 2 * share)
    angle = hips_yaw(t) + (chest_yaw(t) - hips_yaw(t)) * share
    c, s = np.cos(angle), np.sin(angle)
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    moved = np.stack([c * x - s * z, y, s * x + c * z], -1)
    return np.asarray(moved + base(t) + sway(y, t), np.float32)


def head_to_world(points: Array, t: Array | float) -> Array:
    """Points (..., 3) of the head, as if she faced away -> world; `t` may differ for each point."""
    times = gesture(t)
    grid, *curves = _head_curves()
    turn, tilt, *neck = (np.interp(times, grid, curve).astype(np.float32) for curve in curves)
    at = np.stack(neck, -1)
    local = points - NECK
    # The head leans to her left, then turns.
    c, s = np.cos(tilt), np.sin(tilt)
    x = c * local[..., 0] - s * local[..., 1]
    y = s * local[..., 0] + c * local[..., 1]
    c, s = np.cos(turn), np.sin(turn)
    turned = np.stack([c * x - s * local[..., 2], y, s * x + c * local[..., 2]], -1)
    return np.asarray(turned + at, np.float32)


@lru_cache(maxsize=1)
def _head_curves() -> tuple[Array, ...]:
    """Times, then yaw, tilt and the place of the neck (x, y, z) at each."""
    grid = np.linspace(0, GESTURE_S, 116)
    neck = np.array([torso_to_world(NECK, float(x)) for x in grid])
    turn = np.array([head_yaw(float(x)) for x in grid])
    tilt = np.array([0.10 * ease(float(x), 0.05, 0.7) for x in grid])
    return tuple(np.asarray(curve, np.float32) for curve in (grid, turn, tilt, *neck.T))


@dataclass(frozen=True)
class Arm:
    """Joints of one arm in world space, and which way the back of the hand faces."""

    inner: Array  # where the sleeve leaves the trunk
    shoulder: Array
    elbow: Array
    wrist: Array
    tip: Array
    back_of_hand: Array


def _unit(v: Array) -> Array:
    return np.asarray(v / np.sqrt((v * v).sum()), np.float32)


def right_arm(t: float) -> Arm:
    """The arm that rests on the sideboard: the hand stays, the elbow gives."""
    shoulder = torso_to_world(vec([SHOULDER, 1.385, -0.005]), t)
    inner = torso_to_world(vec([0.075, 1.368, -0.012]), t)
    wrist = REST_HAND + vec([-0.035, 0.045, -0.055])
    upper, lower = 0.290, 0.265
    line = wrist - shoulder
    reach = min(float(np.sqrt((line * line).sum())), upper + lower - 0.004)
    along = (upper**2 - lower**2 + reach**2) / (2 * reach)
    out = np.sqrt(max(upper**2 - along**2, 0))
    axis = _unit(line)
    bend = vec([0.35, -0.25, -0.9])
    bend = _unit(bend - axis * float(bend @ axis))
    elbow = shoulder + axis * np.float32(along) + bend * np.float32(out)
    return Arm(
        inner,
        shoulder,
        elbow,
        wrist,
        REST_HAND + vec([0.045, 0.004, 0.07]),
        vec([0, 1, 0]),
    )


def left_arm(t: float) -> Arm:
    """The arm that sweeps up, fast in the middle of the shot."""
    t = float(gesture(t))
    lift = ease(t, 0.12, 0.80)
    # The shoulder rises with the arm.
    shoulder = torso_to_world(vec([-SHOULDER + 0.012 * lift, 1.385 + 0.024 * lift, -0.005]), t)
    inner = torso_to_world(vec([-0.075, 1.368 + 0.012 * lift, -0.012]), t)
    fold = ease(t, 0.22, 0.92)
    settle = 0.10 * np.sin(9 * max(t - 0.62, 0)) * ease(t, 0.6, 0.8)
    angle = 0.20 + 1.42 * lift + settle * 0.4
    swing = 0.25 + 0.50 * lift
    turn = yaw(chest_yaw(t))
    upper = vec([-np.sin(angle), -np.cos(angle), 0]) + vec([0, 0, -0.25 + 0.85 * lift])
    upper = turn @ _unit(upper)
    bend = angle + 0.22 + 1.05 * fold + settle
    lower = vec([-np.sin(bend), -np.cos(bend), 0]) + vec([0, 0, swing])
    lower = turn @ _unit(lower)
    hand_angle = bend - 0.15 + 0.40 * fold - 0.6 * settle
    hand = turn @ _unit(vec([-np.sin(hand_angle), -np.cos(hand_angle), swing * 0.6]))
    elbow = shoulder + 0.285 * upper
    wrist = elbow + 0.25 * lower
    back = turn @ _unit(vec([-0.2 + 0.1 * lift, 0.2 * lift, -1.0]))
    return Arm(inner, shoulder, elbow, wrist, wrist + np.float32(0.17) * hand, back)
