"""The arrays that a caller gives, before anything is copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mattebridge.client.images import (
    as_image,
    as_images,
    check_out,
    input_specs,
    output_specs,
    wire_dtype,
)
from mattebridge.errors import DtypeError, InputsError, MessageError
from mattebridge.wire.slots import PlaneSpec

PLATE = np.zeros((4, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("role", "pixels", "shape", "dtype"),
    [
        ("plate", PLATE, (4, 6, 3), "u1"),
        ("plate", np.zeros((4, 6, 4), np.uint16), (4, 6, 4), "u2"),
        ("plate", np.zeros((4, 6, 3), np.float64), (4, 6, 3), "f4"),
        ("alpha_hint", np.zeros((4, 6), np.float16), (4, 6, 1), "f2"),
    ],
)
def test_an_array_becomes_an_image_of_a_type_the_wire_has(
    role: str, pixels: Any, shape: tuple[int, ...], dtype: str
) -> None:
    image = as_image(role, pixels)
    assert image.shape == shape
    assert wire_dtype(image) == dtype
    assert np.shares_memory(image, pixels) or pixels.dtype == np.float64


@pytest.mark.parametrize(
    ("role", "pixels", "kind"),
    [
        ("plate", None, InputsError),
        ("plate", np.zeros((4, 6), np.uint8), InputsError),
        ("plate", np.zeros((0, 6, 3), np.uint8), InputsError),
        ("core_matte", np.zeros((4, 6, 3), np.uint8), InputsError),
        ("plate", np.zeros((4, 6, 3), np.int32), DtypeError),
        ("plate", np.zeros((4, 6, 3), ">f4"), DtypeError),
    ],
)
def test_an_array_that_is_no_image_is_refused_by_its_role(
    role: str, pixels: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=role) as caught:
        as_image(role, pixels)
    assert caught.value.details == {"field": role}  # type: ignore[attr-defined]


def test_a_clean_plate_of_another_size_is_refused_before_anything_is_copied() -> None:
    with pytest.raises(InputsError, match="the plate is 6x4 and the clean plate is 8x2") as caught:
        as_images({"plate": PLATE, "clean_plate": np.zeros((2, 8, 3), np.uint8)})
    assert caught.value.details == {"field": "clean_plate", "plate": [6, 4], "found": [8, 2]}


def test_inputs_that_are_not_given_have_no_plane() -> None:
    images = as_images({"plate": PLATE, "clean_plate": None, "core_matte": np.zeros((4, 6), "f4")})
    assert input_specs(images) == [PlaneSpec("plate", 3, "u1"), PlaneSpec("core_matte", 1, "f4")]


def test_an_output_has_the_type_asked_for_or_that_of_the_array_to_fill() -> None:
    out = {"alpha": np.empty((4, 6), np.float16)}
    assert output_specs(("alpha", "foreground"), "float32", out) == [
        PlaneSpec("alpha", 1, "f2"),
        PlaneSpec("foreground", 3, "f4"),
    ]
    for outputs in ((), "alpha", ("depth",)):
        with pytest.raises(MessageError):
            output_specs(outputs, "float32", {})
    with pytest.raises(DtypeError, match="float16 or float32, not uint8"):
        output_specs(("alpha",), "uint8", {})


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (np.empty((4, 6, 3), np.float32), "of shape"),
        (np.empty((6, 4), np.float32), "of shape"),
        (np.broadcast_to(np.float32(0), (4, 6)), "read-only"),
    ],
)
def test_an_array_that_cannot_take_its_result_is_refused(target: Any, why: str) -> None:
    specs = [PlaneSpec("alpha", 1, "f4")]
    check_out({"alpha": np.empty((4, 6, 1), np.float32)}, specs, 4, 6)
    with pytest.raises(InputsError, match=why):
        check_out({"alpha": target}, specs, 4, 6)
    with pytest.raises(InputsError, match="not among the outputs"):
        check_out({"error": target}, specs, 4, 6)
