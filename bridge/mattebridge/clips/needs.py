"""Whether a clip has what its model needs, before its first frame.

    card of the model, plan of the clip --> nothing, or an error that names the folder to add

A clip without hint and clean plate can be matted by models that find a green or blue screen by
themselves. Whether there is one is looked for in its first, middle and last frame: a shot may begin
in the dark. Only where none of them shows a screen, the clip is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mattebridge import color
from mattebridge.clips.sizes import refuse_sizes_of
from mattebridge.errors import InputsError, MattebridgeError, ModelError
from mattebridge.image_io.frame_ranges import format_frames
from mattebridge.shot.plan import FrameTask, Plan
from mattebridge.shot.planes import FramePlanes
from mattebridge.wire.params import one_of_role

FOLDERS = {"clean_plate": "CleanPlate/", "alpha_hint": "AlphaHint/"}
# Makers of a hint that need a clean plate.
BY_CLEAN_PLATE = ("difference", "twoplate")
# Families that find a screen where they are given nothing else, and their setting for it.
BY_SCREEN = {"greenformer": "hint_source", "screen": ""}


def check_inputs(plan: Plan, card: Mapping[str, Any]) -> None:
    """Raise `InputsError` where a clip cannot be matted with this model. Reads three frames.

    Plates of more than one size are refused, too.
    """
    refuse_sizes_of(plan)
    job, name = plan.job, card["name"]
    for role in card.get("needs", ()):
        if role in FOLDERS and not getattr(job, role):
            raise InputsError(
                f"model '{name}' needs {one_of_role(role)}, and the clip has none:"
                f" add {FOLDERS[role]} to its folder, or choose another model",
                field=role,
            )
    source = str(job.params.settings.get("hint_source", ""))
    if source in BY_CLEAN_PLATE and not job.clean_plate:
        raise InputsError(
            f"hint_source '{source}' makes the hint from a clean plate, and the clip has none: add"
            " CleanPlate/ to its folder, or use hint_source 'auto'",
            field="clean_plate",
        )
    if _depends_on_screen(plan, card):
        looked = _looked_at(plan.tasks)
        if looked and not any(_shows_screen(plan, task) for task in looked):
            shown = format_frames([task.frame for task in looked])
            noun = "frame" if len(looked) == 1 else "frames"
            raise InputsError(
                f"model '{name}' has nothing to make a matte of: the clip has no AlphaHint/ and no"
                f" CleanPlate/, and no green or blue screen was found in {noun} {shown}; add one"
                " of the two folders",
                field="alpha_hint",
            )


def _depends_on_screen(plan: Plan, card: Mapping[str, Any]) -> bool:
    """Whether a screen in the plate is all that the model can go by."""
    job, family = plan.job, card.get("family")
    if family not in BY_SCREEN or job.clean_plate:
        return False
    settings = job.params.settings
    if settings.get("screen", "auto") != "auto" or settings.get("colour"):
        return False  # it is named: less of it is enough
    source = settings.get(BY_SCREEN[family], "auto")
    return source == "screen" or (source == "auto" and not job.alpha_hint)


def _looked_at(tasks: Sequence[FrameTask]) -> list[FrameTask]:
    """The first, the middle and the last frame that can be read."""
    good = [task for task in tasks if task.problem is None and "plate" not in task.inputs.black]
    places = {0, len(good) // 2, len(good) - 1} if good else set()
    return [good[place] for place in sorted(places)]


def _shows_screen(plan: Plan, task: FrameTask) -> bool:
    from mattebridge.models.screen.find import find_screen

    planes = FramePlanes(plan.job, plan.spaces)
    try:
        plate = planes.plate(task)[..., :3]
        shown = plan.spaces.converted(plate, task.colorspaces["plate"], "srgb")
        picture = np.nan_to_num(color.to_float(shown), posinf=1.0, neginf=0.0)
        find_screen(np.maximum(picture, np.float32(0)), "auto", "")
    except ModelError:
        return False
    except MattebridgeError:
        return True  # what is wrong with this frame is said when its turn comes
    finally:
        planes.close()
    return True
