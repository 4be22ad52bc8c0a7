#include "colour.h"

#include <cstring>

#include "describe.h"
#include "failure.h"
#include "mpack.h"
#include "pixels.h"

namespace mb {
namespace {

constexpr const char *kStyle = "OfxImageEffectPropColourManagementStyle";
constexpr const char *kConfigs = "OfxImageEffectPropColourManagementAvailableConfigs";
constexpr const char *kNone = "OfxImageEffectColourManagementNone";
constexpr const char *kOcio = "OfxImageEffectColourManagementOCIO";
constexpr const char *kNativeConfig = "ofx-native-v1.5_aces-v1.3_ocio-v2.3";
constexpr const char *kColourspace = "OfxImageClipPropColourspace";
constexpr const char *kRaw = "ofx_raw";
constexpr size_t kNameBytes = 128;

// Spaces of the native config that are `linear` and `srgb` themselves, by every name.
constexpr const char *kLinearNames[] = {"lin_rec709_srgb", "lin_rec709", "lin_srgb",
                                        "Linear Rec.709 (sRGB)"};
constexpr const char *kSrgbNames[] = {"srgb_tx", "srgb_texture", "sRGB - Texture", "srgb_display",
                                      "sRGB - Display"};

bool is_managed(OfxPropertySetHandle set) {
  if (host.called("uk.co.thefoundry.nuke")) return false;
  const std::string style = get_text(set, kStyle);
  return !style.empty() && style != kNone;
}

template <size_t count>
bool is_one_of(const std::string &name, const char *const (&names)[count]) {
  for (const char *known : names)
    if (name == known) return true;
  return false;
}

// The name of a clip's space; empty where the host says none, or only of which kind it is.
std::string space_of(const Instance &node, const char *clip) {
  OfxPropertySetHandle set = nullptr;
  if (!node.clip(clip, &set)) return "";
  const std::string name = get_text(set, kColourspace);
  return name.compare(0, 4, "ofx_") == 0 ? "" : mpack::clean_text(name, kNameBytes);
}

std::string as_requested(const std::string &name, bool native) {
  if (native && is_one_of(name, kLinearNames)) return "linear";
  if (native && is_one_of(name, kSrgbNames)) return "srgb";
  return name;
}

}  // namespace

void describe_colour(OfxPropertySetHandle descriptor) {
  if (!is_managed(host.given->host)) return;
  set_text(descriptor, kStyle, kOcio);
  set_text(descriptor, kConfigs, kNativeConfig);
}

void prefer_colours(const Instance &node, OfxPropertySetHandle out) {
  if (!is_managed(node.properties())) return;
  const std::string preferred = "OfxImageClipPropPreferredColourspaces_";
  set_text(out, (preferred + kBackground).c_str(), std::string("OfxColourspace_") + kSource);
  // A mask has no colours that could be managed.
  if (get_text(node.properties(), "OfxImageEffectPropContext") != "OfxImageEffectContextGeneral")
    set_text(out, (preferred + kAlphaHint).c_str(), kRaw);
}

OfxStatus output_colourspace(OfxImageEffectHandle effect, OfxPropertySetHandle out) {
  const Instance *known = Instance::of(effect);
  const Instance fallback(effect);
  const Instance &node = known ? *known : fallback;
  if (!is_managed(node.properties())) return kOfxStatReplyDefault;
  const bool matte =
      node.whole("outputMode", 0, default_output()) == static_cast<int>(Output::Matte);
  set_text(out, kColourspace, matte ? kRaw : std::string("OfxColourspace_") + kSource);
  return kOfxStatOK;
}

Colours colours_of(const Instance &node, bool with_background) {
  Colours found;
  if (!is_managed(node.properties())) return found;
  const bool native = get_text(node.properties(), kStyle) != kOcio;
  const std::string source = space_of(node, kSource);
  const std::string background = with_background ? space_of(node, kBackground) : "";
  if (!source.empty() && !background.empty() && source != background)
    throw Failure("E_INPUTS", "the host gives Background in '" + background + "' and Source in '" +
                                  source + "': convert Background to Source's colour space");
  found.space = as_requested(source, native);
  if (!native && !found.space.empty())
    found.config = get_text(node.properties(), "OfxImageEffectPropOCIOConfig");
  return found;
}

}  // namespace mb
