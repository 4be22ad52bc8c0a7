"""The clip pipeline with a checkpoint: the script of docs/clips.md, the commands and the stage
functions make files of equal pixels, through daemons and without one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fakes.daemon_process import DaemonProcess
from fakes.ofx_host import GENERAL, OK, HostImage, OfxHost
from fakes.places import BRIDGE, ROOT
from fakes.seeded_keyer import seeded_state
from mattebridge.image_io import read_frame, write_frame

HEIGHT, WIDTH, SIZE = 48, 64, 64
FRAMES = (1001, 1002)
LIMIT_S = 300

# A file of 275 MB is written, hashed, copied and loaded.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * LIMIT_S)]

STAGES = f"""
from mattebridge.clips import *

(clip,) = scan("shots").clips
manifest = resolve_alpha(load(clip), clip.root / "RoughMattes")
inference = InferenceConfig(checkpoint_path="CorridorKey.pth", device="cpu", img_size={SIZE})
model = load_model(inference)
for i in range(*manifest.frame_range):
    frame = preprocess_frame(manifest, i, PreprocessConfig(img_size={SIZE}, device="cpu"))
    done = postprocess_frame(run_inference(frame, model, inference), PostprocessConfig())
    write_frame(done, WriteConfig("stages"))
"""


# One frame by the stage functions.
ONE_FRAME = """
import sys
from mattebridge.clips import *

name, size = sys.argv[1], 512
keyer = name != "screen"
(clip,) = scan(sys.argv[2]).clips
manifest = load(clip)
inference = InferenceConfig(model=name, device="cpu", img_size=size)
prepare = PreprocessConfig(img_size=size, device="cpu", model=None if keyer else name)
made = run_inference(preprocess_frame(manifest, 0, prepare), load_model(inference), inference)
only = dict(alpha_enabled=False, fg_enabled=False, comp_enabled=False)
write = WriteConfig("four/stages", exr_type="float", **only)
write_frame(postprocess_frame(made, PostprocessConfig(auto_despeckle=False)), write)
"""


def script_of_the_page() -> str:
    """The script of docs/clips.md, for a square of a size for tests."""
    page = (ROOT / "docs/clips.md").read_text("utf-8")
    (script,) = (s for s in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "Runner" in s)
    assert 8 <= len([line for line in script.splitlines() if line.strip()]) <= 11
    return str(script).replace("1024", str(SIZE))


class Desk:
    """A folder with a checkpoint and a clip, and a user whose models are in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(BRIDGE),
            "MATTEBRIDGE_MODELS": str(folder / "models"),
            # Other sums of the same numbers round in another way.
            "OMP_NUM_THREADS": "1",
        }
        torch.save(seeded_state(), folder / "CorridorKey.pth")
        clip = folder / "shots/take"
        for name in ("Input", "RoughMattes"):
            (clip / name).mkdir(parents=True)
        for number in FRAMES:
            plate, hint = picture(number)
            write_frame(clip / f"Input/a.{number}.exr", plate)
            write_frame(clip / f"RoughMattes/h.{number}.png", hint)

    def python(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def pixels(self, place: str) -> dict[str, np.ndarray]:
        """All pictures below a folder, by path."""
        root = self.folder / place
        return {
            str(path.relative_to(root)): read_frame(path).pixels
            for path in sorted(root.rglob("*"))
            if path.suffix in (".exr", ".png")
        }


def picture(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A plate (H, W, 3), scene-linear with highlights, and a hint (H, W, 1)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / np.array([HEIGHT, WIDTH])[:, None, None]
    plate = np.stack([0.1 + x, 0.6 - 0.3 * y, 0.2 + 0.1 * np.sin(9 * x + number)], axis=2)
    plate[5:9, 20:24] = 4.0
    hint = np.hypot((x - 0.45) / 0.3, (y - 0.5) / 0.35) < 1
    return plate.astype(np.float16), (hint * 255).astype(np.uint8)[..., None]


@pytest.fixture(scope="module")
def daemon(desk: Desk) -> Iterator[DaemonProcess]:
    """It knows the models of the desk."""
    with DaemonProcess(MATTEBRIDGE_MODELS=desk.environment["MATTEBRIDGE_MODELS"]) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    desk.python("-c", script_of_the_page())
    yield desk
    for path in (desk.folder / "CorridorKey.pth", *(desk.folder / "models/weights").iterdir()):
        path.unlink()


def equal(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> bool:
    assert sorted(ours) == sorted(theirs)
    return all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


def test_the_script_of_the_page_makes_the_files_of_its_clip(desk: Desk) -> None:
    made = desk.pixels("shots/take/Output")
    forms = {"alpha": "exr", "fg": "exr", "processed": "exr", "comp": "png"}
    assert set(made) == {f"{n}/a.{f}.{form}" for n, form in forms.items() for f in FRAMES}
    assert made["alpha/a.1001.exr"].shape == (HEIGHT, WIDTH, 1)
    assert made["comp/a.1001.png"].dtype == np.uint8
    known = json.loads((desk.folder / "models/models.json").read_text())["models"]
    (name,) = known
    assert name.startswith("greenformer-" + known[name]["digest"].removeprefix("sha256:")[:16])


def test_the_stage_functions_make_the_same_pixels_without_a_daemon(desk: Desk) -> None:
    desk.python("-c", STAGES)
    assert equal(desk.pixels("stages"), desk.pixels("shots/take/Output"))


def test_both_commands_make_the_same_pixels(desk: Desk, daemon: DaemonProcess) -> None:
    clip = desk.folder / "shots/take"
    (model,) = json.loads((desk.folder / "models/models.json").read_text())["models"]
    by_hand = desk.folder / "byhand/take"
    by_hand.mkdir(parents=True)
    (by_hand / "Input").symlink_to(clip / "Input")
    (by_hand / "AlphaHint").symlink_to(clip / "RoughMattes")
    keyed = ["--instance", str(daemon.folder), "--model", model, "--set", f"img_size={SIZE}"]
    _by_both_commands(desk, clip, keyed)
    made = desk.pixels("shots/take/Output")
    assert equal(desk.pixels("clips/take"), made)
    names = {"foreground": "fg", "premultiplied": "processed"}
    matted = {
        f"{names.get(folder, folder)}/{file}": pixels
        for path, pixels in desk.pixels("matte").items()
        for folder, file in [path.split("/")]
    }
    assert equal(matted, made)


def _by_both_commands(desk: Desk, clip: Path, keyed: list[str]) -> None:
    desk.python("-m", "mattebridge", "clips", "byhand", "-o", "clips", *keyed)
    clean_up = ["--hint-sharpen", "--source-passthrough", "--auto-despeckle"]
    desk.python(
        "-m", "mattebridge", "matte", str(clip / "Input"), "-o", "matte",
        "--alpha-hint", str(clip / "RoughMattes"), "--despill-strength", "0.5", *clean_up, *keyed,
        "--outputs", "alpha,foreground,premultiplied,comp", "--format", "exr,comp=png",
        "--background", "checker:128",
    )  # fmt: skip


@pytest.mark.parametrize("keyed", ["checkpoint", "screen"])
def test_commands_plugin_and_stage_functions_give_one_frame_the_same_pixels(
    desk: Desk, daemon: DaemonProcess, host: OfxHost, keyed: str
) -> None:
    """With a checkpoint and its hint in the square of 512 that a CPU takes, and by the screen.

    Despeckle is off: it would remove all alpha of a network with generated weights.
    """
    (added,) = json.loads((desk.folder / "models/models.json").read_text())["models"]
    model, has_hint = (added, True) if keyed == "checkpoint" else ("screen", False)
    take = desk.folder / "four" / keyed / "take"
    (take / "Input").mkdir(parents=True)
    plate, hint = picture(1001) if has_hint else (screen_plate(), None)
    write_frame(take / "Input/a.1001.exr", plate)
    if hint is not None:
        write_frame(take / "AlphaHint/h.1001.png", hint)
    how = ["--instance", str(daemon.folder), "--model", model]
    how += ["--outputs", "premultiplied", "--format", "exr-float"]
    given = [str(take), "-o", "four/clips", "--no-auto-despeckle"]
    desk.python("-m", "mattebridge", "clips", *given, *how)
    clean_up = ["--source-passthrough", "--despill-strength", "0.5"]
    if has_hint:
        clean_up += ["--hint-sharpen", "--alpha-hint", str(take / "AlphaHint")]
    line = ["matte", str(take / "Input"), "-o", "four/matte", "--existing", "overwrite"]
    desk.python("-m", "mattebridge", *line, *clean_up, *how)
    node = host.create(GENERAL, endpoint=str(daemon.folder), model=model, timeout=LIMIT_S)
    node.set(sourcePassthrough=True, despillStrength=0.5)
    opaque = np.ones((*plate.shape[:2], 1), np.float32)
    node.connect(Source=HostImage(np.concatenate([plate.astype(np.float32), opaque], axis=2)))
    if hint is not None:
        node.set(hintSharpen=True).connect(AlphaHint=HostImage(hint))
    status, output = node.render()
    assert (status, node.message) == (OK, None)
    node.destroy()
    desk.python("-c", ONE_FRAME, model, str(take))
    ours = output.pixels()
    assert ours.dtype == np.float32
    assert 0 < np.count_nonzero(ours[..., 3]) < ours[..., 3].size
    for place in ("clips/take/processed", "matte/premultiplied", "stages/processed"):
        found = read_frame(desk.folder / "four" / place / "a.1001.exr").pixels
        assert np.array_equal(found, ours), place
        (desk.folder / "four" / place / "a.1001.exr").unlink()


def screen_plate() -> np.ndarray:
    """A red disc with a soft edge and a highlight before a green screen, scene-linear."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    alpha = np.clip((16 - np.hypot(x - 30, y - 24)) / 4, 0, 1)[..., None]
    plate = alpha * np.float32([0.5, 0.2, 0.15]) + (1 - alpha) * np.float32([0.05, 0.32, 0.06])
    plate[20:24, 28:32] = 4.0
    return plate.astype(np.float16)
