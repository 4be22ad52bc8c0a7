"""Clips of EXRs with layers and parts, RGBA plates, 16 bits and light above white: all is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import OpenImageIO as oiio  # noqa: N813 - the name its own documentation uses
import pytest

from mattebridge.clips import (
    Clip,
    ClipLayers,
    ClipState,
    PostprocessConfig,
    PreprocessConfig,
    load,
    postprocess_frame,
    preprocess_frame,
    resolve_alpha,
    scan,
    state_of,
)
from mattebridge.clips.job import job_of, job_of_pictures, with_hint_of_plate
from mattebridge.clips.loading import clip_of
from mattebridge.errors import FrameReadError
from mattebridge.image_io import Encoding, write_frame
from mattebridge.shot.plan import FrameTask
from mattebridge.shot.planes import FramePlanes
from mattebridge.shot.preflight import preflight

HEIGHT, WIDTH = 16, 32
LAYERS = ClipLayers(plate="beauty", alpha_hint="matte", clean_plate="empty")


def light(seed: int, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random((HEIGHT, WIDTH, channels)) * 4).astype(np.float16)


def layered(path: Path, seed: int) -> None:
    """A render: nothing in the unnamed layer that is the plate, which is in `beauty`."""
    hint = (light(seed + 2, 1) / 4).astype(np.float16)
    layers = {"beauty": light(seed), "matte": hint, "empty": light(seed + 1)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_frame(path, np.zeros((HEIGHT, WIDTH, 3), np.float16), Encoding(layers=layers))


def parts(path: Path, seed: int) -> None:
    """The same as a file of three parts."""
    hint = (light(seed + 2, 1) / 4).astype(np.float16)
    pictures = {"beauty": light(seed), "matte": hint, "empty": light(seed + 1)}
    specs = []
    for name, picture in pictures.items():
        spec = oiio.ImageSpec(WIDTH, HEIGHT, picture.shape[2], "half")
        spec.channelnames = ("R", "G", "B") if picture.shape[2] == 3 else ("A",)
        spec.attribute("oiio:subimagename", name)
        specs.append(spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    output = oiio.ImageOutput.create("openexr")
    assert output.open(str(path), tuple(specs))
    for number, (picture, spec) in enumerate(zip(pictures.values(), specs)):
        assert number == 0 or output.open(str(path), spec, "AppendSubimage")
        assert output.write_image(picture)
    assert output.close()


def clip_in(root: Path) -> Clip:
    (clip,) = scan(root).clips
    return clip


def planes_of(task: FrameTask, planes: FramePlanes) -> dict[str, np.ndarray]:
    return {
        "plate": planes.plate(task),
        "alpha_hint": planes.matte(task, "alpha_hint")[0],
        "clean_plate": planes.clean_plate(task),
    }


@pytest.mark.parametrize("write", [layered, parts])
def test_plate_hint_and_clean_plate_are_layers_or_parts_of_exrs(tmp_path: Path, write) -> None:
    for number in (1, 2):
        write(tmp_path / f"Input/a.{number:04d}.exr", number)
    write(tmp_path / "CleanPlate/clean.exr", 7)
    manifest = load(clip_in(tmp_path), layers=LAYERS)
    assert not manifest.needs_alpha
    assert manifest.layers is LAYERS
    assert (manifest.width, manifest.height, manifest.dtype) == (WIDTH, HEIGHT, "float16")
    plan = preflight(job_of(clip_of(manifest), job_of_pictures(manifest), layout="stages"))
    for task, seed in zip(plan.tasks, (1, 2)):
        made = planes_of(task, FramePlanes(plan.job, plan.spaces))
        assert np.array_equal(made["plate"], light(seed))
        assert np.array_equal(made["alpha_hint"], (light(seed + 2, 1) / 4).astype(np.float16))
        assert np.array_equal(made["clean_plate"], light(8))
    frame = preprocess_frame(manifest, 1, PreprocessConfig(img_size=32, device="cpu"))
    hint = (light(4, 1) / 4).astype(np.float16).astype(np.float32)
    assert np.array_equal(frame.meta.alpha_hint, hint)
    assert frame.meta.source_image.max() > 1


def test_a_hint_of_its_own_wins_over_a_layer_of_the_plate_and_a_wrong_layer_is_named(
    tmp_path: Path,
) -> None:
    layered(tmp_path / "Input/a.0001.exr", 1)
    clip = clip_in(tmp_path)
    assert state_of(clip).state is ClipState.RAW
    assert state_of(clip, layers=LAYERS).state is ClipState.READY
    assert state_of(clip, layers=ClipLayers(plate="other")).state is ClipState.ERROR
    assert with_hint_of_plate(clip, None).alpha_path is None
    assert with_hint_of_plate(clip, "matte").alpha_path == clip.input_path
    with pytest.raises(FrameReadError, match="no layer 'other'; it holds: beauty, empty, matte"):
        load(clip, layers=ClipLayers(plate="other"))
    (tmp_path / "AlphaHint").mkdir()
    write_frame(tmp_path / "AlphaHint/h.0001.exr", light(3, 1))
    own = with_hint_of_plate(clip_in(tmp_path), "matte")
    assert own.alpha_path == tmp_path / "AlphaHint"


def test_the_alpha_of_a_plate_is_its_hint_where_a_script_says_so(tmp_path: Path) -> None:
    (tmp_path / "Input").mkdir()
    rgba = np.concatenate([light(1), (light(2, 1) / 4).astype(np.float16)], axis=2)
    write_frame(tmp_path / "Input/a.0001.exr", rgba)
    manifest = resolve_alpha(load(clip_in(tmp_path)), tmp_path / "Input")
    frame = preprocess_frame(manifest, 0, PreprocessConfig(img_size=32, device="cpu"))
    assert np.array_equal(frame.meta.alpha_hint, rgba[..., 3:].astype(np.float32))


def test_a_premultiplied_plate_is_made_straight_where_that_is_said_and_else_its_alpha_is_named(
    tmp_path: Path,
) -> None:
    (tmp_path / "Input").mkdir()
    straight = np.full((HEIGHT, WIDTH, 3), 0.5, np.float32)
    alpha = np.linspace(0.25, 1, WIDTH, dtype=np.float32)[None, :, None].repeat(HEIGHT, 0)
    picture = np.concatenate([straight * alpha, alpha], axis=2)
    write_frame(tmp_path / "Input/a.0001.exr", picture, Encoding(dtype="float"))
    seen = {}
    for meaning in ("opaque", "premultiplied"):
        manifest = resolve_alpha(
            load(clip_in(tmp_path), plate_alpha=meaning), tmp_path / "Input/a.0001.exr"
        )
        frame = preprocess_frame(manifest, 0, PreprocessConfig(img_size=32, device="cpu"))
        seen[meaning] = frame.meta.source_image
        plan = preflight(job_of(clip_of(manifest), job_of_pictures(manifest), layout="stages"))
        said = [note for note in plan.notes if "alpha of the plate is not used" in note]
        assert len(said) == (1 if meaning == "opaque" else 0)
    # The sRGB curve of 0.5 is 0.735; a division and a curve are within 1e-6 of it.
    assert np.abs(seen["premultiplied"] - 0.7353569).max() < 1e-5
    assert seen["opaque"][0, 0, 0] < 0.4


def test_a_plate_of_two_channels_that_are_no_colours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Input").mkdir()
    spec = oiio.ImageSpec(WIDTH, HEIGHT, 2, "half")
    spec.channelnames = ("u", "v")
    output = oiio.ImageOutput.create(str(tmp_path / "Input/a.0001.exr"))
    assert output.open(str(tmp_path / "Input/a.0001.exr"), spec)
    assert output.write_image(light(1, 2))
    assert output.close()
    with pytest.raises(FrameReadError, match=r"a\.0001\.exr"):
        load(clip_in(tmp_path))


def test_sixteen_bits_and_light_above_white_come_through_the_whole_way(tmp_path: Path) -> None:
    """A model that gives alpha 1 everywhere gives back the plate: to the bit in half."""
    import torch

    from mattebridge.clips import InferenceResult

    (tmp_path / "a/Input").mkdir(parents=True)
    (tmp_path / "b/Input").mkdir(parents=True)
    codes = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint16).reshape(HEIGHT, WIDTH, 3) * 40
    write_frame(tmp_path / "a/Input/a.0001.png", codes)
    write_frame(tmp_path / "b/Input/b.0001.exr", light(1) * 5)
    for name, wanted in (("a", codes / 65535.0), ("b", (light(1) * 5).astype(np.float32))):
        manifest = load(clip_in(tmp_path / name))
        (hint := tmp_path / f"{name}.png")
        write_frame(hint, np.full((HEIGHT, WIDTH, 1), 255, np.uint8))
        manifest = resolve_alpha(manifest, hint)
        meta = preprocess_frame(manifest, 0, PreprocessConfig(img_size=32, device="cpu")).meta
        whole = InferenceResult(torch.ones(1, 1, 32, 32), torch.zeros(1, 3, 32, 32), meta)
        plain = PostprocessConfig(edge_erode_px=0, despill_strength=0, auto_despeckle=False)
        done = postprocess_frame(whole, plain)
        found = done.fg if name == "a" else done.processed[..., :3]
        # A 16-bit step is 1.5e-5; light up to 20 goes through a curve there and back.
        assert np.abs(found - wanted).max() < (2e-6 if name == "a" else 2e-5 * 20)
