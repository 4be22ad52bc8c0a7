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

int default_input_color();
int default_output();
inline constexpr double kDefaultTimeout = 60;

}  // namespace mb
