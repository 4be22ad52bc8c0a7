"""The card of a plate + hint checkpoint, made without opening the file and without torch.

A checkpoint is recognised once, when it is added (`recognise.describe_state`), and recorded as a
`WeightsRecord`; from that the daemon makes the card, and the model when a request needs it.
"""

from __future__ import annotations

from mattebridge.models.base import ModelCard, Setting, SettingsSchema
from mattebridge.models.difference.card import DIFFERENCE
from mattebridge.models.entry import Entry
from mattebridge.models.weights.file import WeightsRecord

FAMILY = "greenformer"
FACTORY = "mattebridge.models.greenformer.model:GreenformerModel.from_record"
SCREENS = ("green", "blue")
# Of records: whether the checkpoint has a refiner.
REFINER, PRESENT, ABSENT = "refiner", "present", "absent"
# The value of `img_size` that means "by the device's free memory".
BY_MEMORY = 0
# The value of `precision` that means "as is best on the device".
BY_DEVICE = "auto"
LARGEST_SIZE = 4096
# The refiner's change was trained with the factor 1; more is allowed, and said in the reply.
USUAL_SCALE, LARGEST_SCALE = 1.0, 5.0
# Measured peak of one frame beyond its planes and the network's own maps, rounded up.
BYTES_PER_PIXEL = 128

SETTINGS = SettingsSchema(
    img_size=Setting(
        BY_MEMORY,
        "side of the square that the network sees: 512, 1024, 1536, 2048 or another multiple of "
        "32; 0: the largest of the four that fits the device's free memory, on the CPU 512",
        minimum=BY_MEMORY,
        maximum=LARGEST_SIZE,
    ),
    fit=Setting(
        "stretch",
        "how the frame becomes a square: stretch, as checkpoints were trained, or letterbox, "
        "which keeps its aspect, for frames beyond about 2.4:1",
        choices=("stretch", "letterbox"),
    ),
    hint_source=Setting(
        "auto",
        "auto: the alpha hint that is sent, else the alpha of `difference` where there is a clean "
        "plate, else that of `screen`; difference, twoplate, screen: the alpha of that model",
        choices=("auto", "difference", "twoplate", "screen"),
    ),
    screen=Setting(
        "auto",
        "the colour of the screen in the plate; auto: the checkpoint's own. For the other one "
        "green and blue change places before and after the network",
        choices=("auto", *SCREENS),
    ),
    refiner=Setting(
        "auto",
        "full_frame, or tiled in less memory with the same pixels; auto: as the free memory "
        "allows; off: the coarse matte",
        choices=("auto", "full_frame", "tiled", "off"),
    ),
    refiner_scale=Setting(
        USUAL_SCALE,
        "how much of the refiner's change is added; above 1 is beyond its training",
        minimum=0.0,
        maximum=LARGEST_SCALE,
    ),
    precision=Setting(
        BY_DEVICE,
        "numbers of the encoder; all that follows it is float32. auto: bfloat16 on CUDA from "
        "compute capability 8 on, float16 on older ones, float32 elsewhere",
        choices=(BY_DEVICE, "float32", "float16", "bfloat16"),
    ),
    image_upsample_mode=Setting(
        "bilinear",
        "how a plate smaller than the square is enlarged",
        choices=("bilinear", "bicubic"),
    ),
    sharpen_strength=Setting(
        0.0,
        "sharpens a plate that was enlarged to the square",
        minimum=0.0,
        maximum=1.0,
    ),
    result_upsample_mode=Setting(
        "lanczos4",
        "how the matte is enlarged to a frame larger than the square",
        choices=("lanczos4", "bicubic", "bilinear"),
    ),
    alpha_upsample_mode=Setting(
        "as_result",
        "the same for alpha alone; as_result: as `result_upsample_mode`",
        choices=("as_result", "lanczos4", "bicubic", "bilinear"),
    ),
)


def card_of(weights: WeightsRecord) -> ModelCard:
    """The card of a checkpoint. Raises `KeyError` for a record that is not complete."""
    screen = str(weights.settings["screen"])
    if screen not in SCREENS or weights.settings[REFINER] not in (PRESENT, ABSENT):
        raise ValueError("screen or refiner")
    return ModelCard(
        name=weights.name,
        family=FAMILY,
        summary=f"Plate and alpha hint, trained on {screen} screens; it can make the hint",
        digest=weights.digest,
        licence=weights.licence,
        needs_clean_plate=False,
        uses_alpha_hint=True,
        accepts_hdr=True,
        gives_hdr=False,
        # A clean plate is for a hint and for unmixing: both need it fitted.
        default_alignment="auto",
        needs_torch=True,
        settings_schema=SETTINGS,
        # A hint may have to be made by it.
        size_rule=DIFFERENCE.size_rule,
        bytes_per_pixel=BYTES_PER_PIXEL,
    )


def entry_of(weights: WeightsRecord) -> Entry:
    """The checkpoint in a source of models; its file is opened when the model is loaded."""
    return Entry(card_of(weights), FACTORY, weights)
