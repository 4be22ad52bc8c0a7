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
    {"matte_from_luma",
     "the alpha of a hint or matte is the same all over, so its luma was used: give it "
     "an alpha, or choose its channel"},
};

}  // namespace mb
