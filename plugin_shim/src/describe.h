// What the plugin declares: contexts, clips, parameters. Needs no daemon.
#pragma once

#include "host.h"

namespace mb {

OfxStatus describe(OfxImageEffectHandle descriptor);
OfxStatus describe_in_context(OfxImageEffectHandle descriptor, OfxPropertySetHandle in);
OfxStatus clip_preferences(OfxImageEffectHandle effect, OfxPropertySetHandle out);
OfxStatus regions_of_interest(OfxImageEffectHandle effect, OfxPropertySetHandle in,
                              OfxPropertySetHandle out);

// The choices of inputColor, hintChannel, ... by number. Projects store the number: append only.
enum InputColor { kLinear, kSrgb };
enum HintChannel { kHintAlpha, kHintRed, kHintLuminance };
enum OnError { kFail, kPassSource, kTransparentBlack };
inline constexpr const char *kForegroundSources[] = {"model", "unmix", "plate"};
inline constexpr const char *kPremultiplies[] = {"linear", "display"};
inline constexpr const char *kAlignments[] = {"off", "auto", "homography"};  // 3: the model's own
inline constexpr const char *kNonFinite[] = {"error", "zero"};
inline constexpr const char *kSpillMethods[] = {"average", "double_limit", "screen_only"};
inline constexpr const char *kScreens[] = {"green", "blue"};  // 2: the model's own, else green

// The knobs of the group "Clean-up" and the render parameters that they are sent as.
struct Switch {
  const char *knob, *param;
};
struct Whole {
  const char *knob, *param;
  int value;  // the default, of the plugin as of the daemon
  int highest;
};
struct Fraction {
  const char *knob, *param;
  double value;
};
inline constexpr Switch kSwitches[] = {{"hintSharpen", "hint_sharpen"},
                                       {"sourcePassthrough", "source_passthrough"},
                                       {"autoDespeckle", "auto_despeckle"},
                                       {"despeckleHysteresis", "despeckle_hysteresis"}};
inline constexpr Whole kLengths[] = {{"hintSharpenDilation", "hint_sharpen_dilation", 3, 500},
                                     {"hintBlur", "hint_blur_px", 0, 500},
                                     {"edgeErode", "edge_erode_px", 3, 500},
                                     {"edgeBlur", "edge_blur_px", 7, 500},
                                     {"despeckleDilation", "despeckle_dilation", 25, 500},
                                     {"despeckleBlur", "despeckle_blur", 5, 500}};
inline constexpr Whole kArea = {"despeckleSize", "despeckle_size", 400, 1 << 28};
inline constexpr Fraction kThreshold = {"despeckleThreshold", "despeckle_threshold", 0.5};
inline constexpr Fraction kDespill = {"despillStrength", "despill_strength", 0};

// What the line "Daemon found" says until somebody has looked.
inline constexpr const char *kNotLooked = "not looked for yet";

int default_input_color();
int default_output();
inline constexpr double kDefaultTimeout = 60;

}  // namespace mb
