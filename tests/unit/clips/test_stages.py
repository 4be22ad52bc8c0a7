"""The stage functions against the engine that the daemon's worker runs: equal pixels, documented
shapes, what is refused."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from fakes.seeded_keyer import flat_state
from fakes.stage_keyer import INFERENCE, POSTPROCESS, PREPROCESS, SIZE, keyer, network
from mattebridge.clips import (
    FrameMeta,
    InferenceConfig,
    InferenceResult,
    PostprocessConfig,
    PostprocessedFrame,
    PreprocessedFrame,
    WriteConfig,
    load,
    load_model,
    postprocess_frame,
    preprocess_frame,
    run_inference,
    scan,
    write_frame,
)
from mattebridge.clips.contracts import ClipManifest
from mattebridge.clips.requests import clean_up_of, settings_of
from mattebridge.color import srgb_encode
from mattebridge.engine.engine import Engine
from mattebridge.errors import FrameReadError, ModelError
from mattebridge.image_io import Encoding, read_frame, read_header
from mattebridge.image_io import write_frame as write_picture
from mattebridge.image_io.video_write import VIDEO_FORMATS, VideoTimes, open_video
from mattebridge.models.entry import Entry
from mattebridge.models.registry import Registry
from mattebridge.version import __version__
from mattebridge.wire.params import RenderParams

HEIGHT, WIDTH = 40, 52


def plate_of(number: int) -> np.ndarray:
    """A plate with highlights, (H, W, 3) half."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / np.array([HEIGHT, WIDTH])[:, None, None]
    picture = np.stack([0.1 + x, 0.6 - 0.3 * y, 0.2 + 0.1 * np.sin(9 * x + number)], axis=2)
    picture[5:9, 20:24] = 4.0
    return picture.astype(np.float16)


def hint_of(number: int) -> np.ndarray:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    inside = np.hypot((x - 20 - number % 7) / 14, (y - 20) / 15) < 1
    return (inside * 255).astype(np.uint8)[..., None]


def clip(root: Path, *numbers: int) -> ClipManifest:
    """Linear EXRs with hints."""
    for number in numbers:
        for folder in ("Input", "AlphaHint"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        write_picture(root / f"Input/a.{number:04d}.exr", plate_of(number))
        write_picture(root / f"AlphaHint/h.{number:04d}.png", hint_of(number))
    (found,) = scan(root).clips
    return load(found)


def finished(manifest: ClipManifest, i: int = 0) -> PostprocessedFrame:
    frame = preprocess_frame(manifest, i, PREPROCESS)
    return postprocess_frame(run_inference(frame, network(), INFERENCE), POSTPROCESS)


def by_the_engine(number: int, space: str, dtype: str) -> dict[str, np.ndarray]:
    """What the daemon's worker computes of the same planes."""
    engine = Engine(
        "cpu",
        registry=Registry(lambda: {"key": Entry(keyer().card, lambda card: keyer())}, aliases={}),
    )
    params = RenderParams(
        "linear",
        output_colorspace=space,
        settings=settings_of(PREPROCESS, INFERENCE, POSTPROCESS),
        **clean_up_of(POSTPROCESS),
    )
    shape = {"alpha": 1, "foreground": 3, "premultiplied": 4}
    out = {role: np.empty((HEIGHT, WIDTH, n), dtype) for role, n in shape.items()}
    planes = {"plate": plate_of(number), "alpha_hint": hint_of(number)}
    engine.matte(planes, params, model="key", out=out)
    return out


@pytest.mark.slow
def test_the_stages_give_the_pixels_of_the_daemons_engine_to_the_bit(tmp_path: Path) -> None:
    frame = finished(clip(tmp_path, 1001, 1002), 1)
    light, shown = by_the_engine(1002, "linear", "float32"), by_the_engine(1002, "srgb", "float32")
    assert np.array_equal(frame.alpha, light["alpha"])
    assert np.array_equal(frame.processed, light["premultiplied"])
    assert np.array_equal(frame.fg, shown["foreground"])
    assert 0 < np.count_nonzero(frame.alpha) < frame.alpha.size
    assert float(frame.fg.max()) > 1
    out = tmp_path / "out"
    write_frame(frame, WriteConfig(out))
    picture = read_frame(out / "fg/a.1002.exr").pixels
    assert np.array_equal(picture, light["foreground"].astype(np.float16))
    write_frame(frame, WriteConfig(out, comp_enabled=False))
    half = by_the_engine(1002, "linear", "float16")
    picture = read_frame(out / "processed/a.1002.exr").pixels
    assert np.array_equal(picture, half["premultiplied"])


def test_every_stage_has_its_documented_shapes(tmp_path: Path) -> None:
    frame = preprocess_frame(clip(tmp_path, 7), 0, PREPROCESS)
    assert frame.tensor.shape == (1, 4, SIZE, SIZE)
    assert frame.tensor.dtype == torch.float32
    meta = frame.meta
    assert (meta.frame_index, meta.frame, meta.original_h, meta.original_w) == (0, 7, 40, 52)
    assert meta.source_image.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(meta.source_image - srgb_encode(plate_of(7))).max() < 1e-6
    assert meta.alpha_hint.shape == (HEIGHT, WIDTH, 1)
    made = run_inference(frame, network(), INFERENCE)
    assert made.alpha.shape == (1, 1, SIZE, SIZE)
    assert made.fg.shape == (1, 3, SIZE, SIZE)
    assert torch.equal(network()(frame.tensor)["fg"], made.fg)
    done = postprocess_frame(made, POSTPROCESS, stem="mine")
    shapes = {name: getattr(done, name).shape[2] for name in ("alpha", "fg", "processed", "comp")}
    assert shapes == {"alpha": 1, "fg": 3, "processed": 4, "comp": 3}
    assert all(getattr(done, n).dtype == np.float32 for n in shapes)
    assert (done.stem, done.source_h, done.source_w) == ("mine", HEIGHT, WIDTH)
    assert isinstance(network(), torch.nn.Module)
    assert not network().training


def test_index_5_of_the_range_5_to_10_reads_the_sixth_file(tmp_path: Path) -> None:
    manifest = clip(tmp_path, *range(1001, 1011)).model_copy(update={"frame_range": (5, 10)})
    assert preprocess_frame(manifest, 5, PREPROCESS).meta.frame == 1006
    for outside in (4, 10, -1):
        with pytest.raises(ValueError, match="frame_range"):
            preprocess_frame(manifest, outside, PREPROCESS)


def test_lists_of_files_stand_in_for_those_of_the_manifest(tmp_path: Path) -> None:
    manifest = clip(tmp_path, 1, 2)
    images = sorted((tmp_path / "Input").iterdir())[::-1]
    hints = sorted((tmp_path / "AlphaHint").iterdir())[::-1]
    frame = preprocess_frame(manifest, 0, PREPROCESS, images, hints)
    assert frame.meta.stem == "a.0002"
    assert torch.equal(frame.tensor, preprocess_frame(manifest, 1, PREPROCESS).tensor)


def test_a_frame_of_documented_fields_alone_is_finished_like_any_other(tmp_path: Path) -> None:
    frame = preprocess_frame(clip(tmp_path, 3), 0, PREPROCESS)
    own = FrameMeta(0, HEIGHT, WIDTH, frame.meta.source_image, frame.meta.alpha_hint)
    made = run_inference(PreprocessedFrame(frame.tensor, own), network(), INFERENCE)
    done = postprocess_frame(made, POSTPROCESS)
    theirs = postprocess_frame(run_inference(frame, network(), INFERENCE), POSTPROCESS)
    assert done.stem == "frame_000000"
    assert np.array_equal(done.alpha, theirs.alpha)
    # The plate came encoded: a curve there and back, measured 3e-7 of values up to 2.
    assert np.abs(done.fg - theirs.fg).max() < 1e-5
    bare = made.model_copy(update={"meta": FrameMeta(0, HEIGHT, WIDTH)})
    with pytest.raises(ValueError, match="hint_sharpen needs an alpha hint"):
        postprocess_frame(bare, POSTPROCESS)
    with pytest.raises(ValueError, match="source_passthrough needs the plate"):
        postprocess_frame(bare, PostprocessConfig(hint_sharpen=False))


def test_a_picture_that_a_script_changed_is_written_as_changed(tmp_path: Path) -> None:
    frame = finished(clip(tmp_path, 1))
    with pytest.raises(ValueError, match="read-only"):
        frame.alpha[:] = 0
    gone = frame.model_copy(update={"alpha": np.zeros_like(frame.alpha)})
    write_frame(gone, WriteConfig(tmp_path / "out", comp_enabled=False))
    assert not read_frame(tmp_path / "out/alpha/a.0001.exr").pixels.any()
    kept = read_frame(tmp_path / "out/processed/a.0001.exr").pixels
    assert np.array_equal(kept, frame.processed.astype(np.float16))


def test_what_is_written_and_how_follows_the_configuration(tmp_path: Path) -> None:
    frame = finished(clip(tmp_path, 1))
    out = tmp_path / "out"
    config = WriteConfig(
        out, alpha_format="png", fg_enabled=False, processed_format="png", exr_compression="piz"
    )
    write_frame(frame, config)
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*.*"))
    assert found == ["alpha/a.0001.png", "comp/a.0001.png", "processed/a.0001.png"]
    alpha = read_frame(out / "alpha/a.0001.png").pixels
    # To the nearest, not truncated.
    assert np.array_equal(alpha, np.floor(frame.alpha * 255 + 0.5).astype(np.uint8))
    assert read_frame(out / "processed/a.0001.png").pixels.dtype == np.uint16
    comp = read_frame(out / "comp/a.0001.png").pixels
    assert np.array_equal(comp, np.floor(frame.comp * 255 + 0.5).astype(np.uint8))
    write_frame(frame, WriteConfig(out, exr_compression="piz", exr_type="float"))
    assert np.array_equal(read_frame(out / "processed/a.0001.exr").pixels, frame.processed)


def test_a_picture_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    frame = finished(clip(tmp_path, 1))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        write_frame(frame, WriteConfig(tmp_path / "file"))


def test_a_dump_shows_what_the_network_made(tmp_path: Path) -> None:
    made = run_inference(preprocess_frame(clip(tmp_path, 1), 0, PREPROCESS), network(), INFERENCE)
    config = PostprocessConfig(debug_dump=True, auto_despeckle=False)
    with pytest.raises(ValueError, match="output_dir"):
        postprocess_frame(made, config)
    postprocess_frame(made, config, output_dir=tmp_path)
    assert sorted(path.name for path in (tmp_path / "debug").iterdir()) == [
        "a.0001__01_raw_alpha.png",
        "a.0001__02_raw_fg.png",
        "a.0001__03_post_hint_alpha.png",
        "a.0001__04_post_hint_fg.png",
    ]


def test_a_hint_is_needed_and_a_missing_or_wrong_checkpoint_is_refused(tmp_path: Path) -> None:
    manifest = clip(tmp_path, 1)
    bare = manifest.model_copy(update={"needs_alpha": True})
    with pytest.raises(ValueError, match="resolve_alpha"):
        preprocess_frame(bare, 0, PREPROCESS)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*none\.pth"):
        load_model(InferenceConfig(tmp_path / "none.pth"))
    (tmp_path / "wrong.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(RuntimeError) as caught:
        load_model(InferenceConfig(tmp_path / "wrong.pth", device="cpu"))
    assert isinstance(caught.value, ModelError)
    state = flat_state(8)
    del state["alpha_decoder.bn.bias"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(RuntimeError, match=r"1 of the 367 entries .* alpha_decoder\.bn\.bias"):
        load_model(InferenceConfig(tmp_path / "part.pth", device="cpu"))
    frame = preprocess_frame(manifest, 0, PREPROCESS)
    with pytest.raises(ModelError, match="mlx"):
        run_inference(frame, network(), InferenceConfig(backend="mlx"))


def test_alpha_and_colours_are_enlarged_each_in_its_own_way() -> None:
    meta = FrameMeta(0, 96, 96)
    made = InferenceResult(torch.rand(1, 1, 32, 32), torch.rand(1, 3, 32, 32), meta)
    bare = PostprocessConfig(
        hint_sharpen=False, source_passthrough=False, auto_despeckle=False, despill_strength=0
    )
    smooth = {"alpha_upsample_mode": "bilinear"}
    one = postprocess_frame(made, bare)
    other = postprocess_frame(made, bare.model_copy(update=smooth))
    assert np.array_equal(one.fg, other.fg)
    assert not np.array_equal(one.alpha, other.alpha)


def test_a_hint_of_another_size_is_fitted_and_any_type_of_plate_is_read(tmp_path: Path) -> None:
    manifest = clip(tmp_path, 1, 2)
    write_picture(tmp_path / "AlphaHint/h.0001.png", hint_of(1)[::2, ::2])
    frame = preprocess_frame(manifest, 0, PREPROCESS)
    assert frame.meta.alpha_hint.shape == (HEIGHT, WIDTH, 1)
    grey = np.full((HEIGHT, WIDTH, 1), 0.25, np.float32)
    write_picture(tmp_path / "Input/a.0002.exr", grey)
    frame = preprocess_frame(manifest, 1, PREPROCESS)
    assert np.ptp(frame.meta.source_image, axis=2).max() == 0
    (tmp_path / "Input/a.0002.exr").write_bytes(b"damaged")
    with pytest.raises(FrameReadError, match=r"a\.0002\.exr"):
        preprocess_frame(manifest, 1, PREPROCESS)


def test_what_the_plate_says_of_itself_is_in_the_files(tmp_path: Path) -> None:
    manifest = clip(tmp_path, 1)
    about = Encoding(metadata={"camera": "B"}, pixel_aspect=2.0)
    write_picture(tmp_path / "Input/a.0001.exr", plate_of(1), about)
    write_frame(finished(manifest), WriteConfig(tmp_path / "out"))
    made = read_header(tmp_path / "out/processed/a.0001.exr")
    assert (made.pixel_aspect, made.metadata["camera"]) == (2.0, "B")
    # And what the files are made by, as `mattebridge matte` says it.
    told = {name: made.metadata[f"mattebridge:{name}"] for name in ("model", "modelDigest")}
    assert told == {"model": keyer().card.name, "modelDigest": keyer().card.digest}
    settings = json.loads(made.metadata["mattebridge:settings"])
    assert (settings["despill_strength"], settings["settings"]["img_size"]) == (0.5, SIZE)
    assert made.metadata["mattebridge:version"] == __version__


def test_a_replaced_video_of_equal_length_gives_its_own_pictures(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "AlphaHint").mkdir()
    write_picture(tmp_path / "AlphaHint/h.png", hint_of(1))
    seen = []
    for number, level in enumerate((40, 200)):
        video(tmp_path / "Input/take.mov", level)
        os.utime(tmp_path / "Input/take.mov", (number + 1, number + 1))
        (found,) = scan(tmp_path).clips
        frame = preprocess_frame(load(found), 1, PREPROCESS)
        assert frame.meta.stem == "frame_000001"
        seen.append(float(frame.meta.source_image.mean()))
    assert np.allclose(seen, [40 / 255, 200 / 255], atol=0.01)


def video(path: Path, level: int) -> None:
    """Two pictures of one grey."""
    path.parent.mkdir(exist_ok=True)
    form = VIDEO_FORMATS["qtrle"]
    writer = open_video(path, form, width=WIDTH, height=HEIGHT, times=VideoTimes(Fraction(24)))
    for _ in range(2):
        writer.add(np.full((HEIGHT, WIDTH, 3), level, np.uint8))
    writer.close()
