// The labels of a reply's `degraded`, and the notes that a host shows like one, with the sentence for
// each. A copy of bridge/mattebridge/wire/labels.py, which a test compares with this.
#pragma once

namespace mb {

struct Label {
  const char *word, *sentence;
};

inline constexpr Label kLabels[] = {
    {"no_set_visible",
     "no part of the plate looks like the clean plate: check that both are of one shot "
     "and in one colour space"},
    {"clean_plate_unaligned",
     "the clean plate could not be aligned with the plate: give one from the same "
     "camera position, or turn alignment off"},
    {"clean_plate_does_not_cover",
     "part of the frame is outside the clean plate: give a larger clean plate, or "
     "check the matte at the frame's edge"},
    {"exposure_unmatched",
     "the exposure of the clean plate could not be matched to the plate: grade the "
     "clean plate, or turn the match off"},
    {"clean_plate_is_the_plate",
     "the clean plate is the same picture as the plate: give a picture of the set "
     "without the subject"},
    {"set_moved",
     "something on the set stands elsewhere in the clean plate and was left out of the "
     "matte: check it, or paint it in with a core matte if it belongs to the subject"},
    {"refiner_tiled",
     "the refiner worked in tiles for want of memory or because it was asked to: the "
     "pixels are the same and the frame took longer, so free memory if it is too slow"},
    {"half_precision_overflow",
     "the frame has values that half precision cannot hold and was computed again in "
     "float32: set precision to float32 or bfloat16 to save the first attempt"},
    {"refiner_scale_above_1",
     "the refiner's change was enlarged beyond its training: check the edges, or set "
     "its scale to 1 at most"},
    {"matte_from_luma",
     "the alpha of a hint or matte is the same all over, so its luma was used: give it "
     "an alpha, or choose its channel"},
    {"other_color_config",
     "the host has another OpenColorIO config than the daemon, where names may mean other "
     "colours: set OCIO alike for both"},
};

}  // namespace mb
