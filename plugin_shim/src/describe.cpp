#include "describe.h"

#include <climits>
#include <cmath>
#include <initializer_list>

#include "colour.h"
#include "pixels.h"
#include "version.h"

namespace mb {
namespace {

constexpr const char *kRgba = "OfxImageComponentRGBA", *kRgb = "OfxImageComponentRGB";
constexpr const char *kAlpha = "OfxImageComponentAlpha";
constexpr const char *kFilter = "OfxImageEffectContextFilter";
constexpr const char *kGeneral = "OfxImageEffectContextGeneral";
constexpr const char *kAdvanced = "advanced";

void set_texts(OfxPropertySetHandle set, const char *name,
               std::initializer_list<const char *> all) {
  int index = 0;
  for (const char *text : all) set_text(set, name, text, index++);
}

void set_labels(OfxPropertySetHandle set, const char *label) {
  for (const char *name : {"OfxPropLabel", "OfxPropShortLabel", "OfxPropLongLabel"})
    set_text(set, name, label);
}

// ---------------------------------------------------------------------------------------------
// Clips

OfxPropertySetHandle define_clip(OfxImageEffectHandle effect, const char *name,
                                 std::initializer_list<const char *> components) {
  OfxPropertySetHandle set = nullptr;
  if (host.effect->clipDefine(effect, name, &set) != kOfxStatOK || !set) return nullptr;
  set_labels(set, name);
  set_texts(set, "OfxImageEffectPropSupportedComponents", components);
  set_int(set, "OfxImageEffectPropSupportsTiles", 0);
  set_int(set, "OfxImageEffectPropTemporalClipAccess", 0);
  set_text(set, "OfxImageClipPropFieldExtraction", "OfxFieldBoth");
  return set;
}

// A host that describes one descriptor twice refuses the second call, because the clips exist.
void define_clips(OfxImageEffectHandle effect, bool general) {
  define_clip(effect, kOutput, {kRgba});
  // In a filter the output always has the source's components: an RGB one would lose the matte.
  if (general) define_clip(effect, kSource, {kRgba, kRgb});
  else define_clip(effect, kSource, {kRgba});
  set_int(define_clip(effect, kBackground, {kRgba, kRgb}), "OfxImageClipPropOptional", 1);
  const OfxPropertySetHandle hint = define_clip(effect, kAlphaHint, {kRgba, kRgb, kAlpha});
  set_int(hint, "OfxImageClipPropOptional", 1);
  set_int(hint, "OfxImageClipPropIsMask", general ? 1 : 0);
}

// ---------------------------------------------------------------------------------------------
// Parameters

struct Words {
  const char *name, *label, *hint;
};

class Parameters {
 public:
  explicit Parameters(OfxParamSetHandle set) : set_(set) {}

  void group(const Words &words) {
    set_int(define("OfxParamTypeGroup", words, nullptr), "OfxParamPropGroupOpen", 0);
  }

  void text(const Words &words, const char *value, const char *parent = nullptr) {
    const OfxPropertySetHandle set = define("OfxParamTypeString", words, parent);
    set_text(set, "OfxParamPropStringMode", "OfxParamStringIsSingleLine");
    set_text(set, "OfxParamPropDefault", value);
    still(set);
  }

  void choice(const Words &words, std::initializer_list<const char *> options, int value,
              const char *parent = nullptr) {
    const OfxPropertySetHandle set = define("OfxParamTypeChoice", words, parent);
    set_texts(set, "OfxParamPropChoiceOption", options);
    set_int(set, "OfxParamPropDefault", value);
    still(set);
  }

  void truth(const Words &words, bool value = true, const char *parent = nullptr) {
    const OfxPropertySetHandle set = define("OfxParamTypeBoolean", words, parent);
    set_int(set, "OfxParamPropDefault", value ? 1 : 0);
    still(set);
  }

  // shown: the end of the slider.
  void whole(const Whole &knob, const char *label, const char *hint, int shown,
             const char *parent) {
    const OfxPropertySetHandle set = define("OfxParamTypeInteger", {knob.knob, label, hint}, parent);
    set_int(set, "OfxParamPropDefault", knob.value);
    set_int(set, "OfxParamPropMin", 0);
    set_int(set, "OfxParamPropMax", knob.highest);
    set_int(set, "OfxParamPropDisplayMin", 0);
    set_int(set, "OfxParamPropDisplayMax", shown);
    still(set);
  }

  void fraction(const Fraction &knob, const char *label, const char *hint, const char *parent) {
    const OfxPropertySetHandle set = define("OfxParamTypeDouble", {knob.knob, label, hint}, parent);
    set_text(set, "OfxParamPropDoubleType", "OfxParamDoubleTypePlain");
    set_double(set, "OfxParamPropDefault", knob.value);
    for (const char *low : {"OfxParamPropMin", "OfxParamPropDisplayMin"}) set_double(set, low, 0);
    for (const char *high : {"OfxParamPropMax", "OfxParamPropDisplayMax"}) set_double(set, high, 1);
    set_double(set, "OfxParamPropIncrement", 0.01);
    set_int(set, "OfxParamPropDigits", 2);
    still(set);
  }

  void seconds(const Words &words, double value, const char *parent) {
    const OfxPropertySetHandle set = define("OfxParamTypeDouble", words, parent);
    set_text(set, "OfxParamPropDoubleType", "OfxParamDoubleTypePlain");
    set_double(set, "OfxParamPropDefault", value);
    // The display range last: setting the range resets it.
    set_double(set, "OfxParamPropMin", 1);
    set_double(set, "OfxParamPropMax", 3600);
    set_double(set, "OfxParamPropDisplayMin", 5);
    set_double(set, "OfxParamPropDisplayMax", 300);
    set_double(set, "OfxParamPropIncrement", 1);
    set_int(set, "OfxParamPropDigits", 1);
    still(set);
  }

  void counter(const Words &words, const char *parent) {
    const OfxPropertySetHandle set = define("OfxParamTypeInteger", words, parent);
    set_int(set, "OfxParamPropDefault", 0);
    for (const char *low : {"OfxParamPropMin", "OfxParamPropDisplayMin"}) set_int(set, low, 0);
    set_int(set, "OfxParamPropMax", INT_MAX);
    set_int(set, "OfxParamPropDisplayMin", 0);
    set_int(set, "OfxParamPropDisplayMax", INT_MAX);
    set_int(set, "OfxParamPropSecret", 1);
    still(set);
  }

  // Shown, not to be filled in, and no part of what is saved or rendered.
  void line(const Words &words, const char *value) {
    const OfxPropertySetHandle set = define("OfxParamTypeString", words, nullptr);
    set_text(set, "OfxParamPropStringMode", "OfxParamStringIsSingleLine");
    set_text(set, "OfxParamPropDefault", value);
    for (const char *name : {"OfxParamPropEnabled", "OfxParamPropAnimates", "OfxParamPropPersistant",
                             "OfxParamPropEvaluateOnChange"})
      set_int(set, name, 0);
  }

  void button(const Words &words, const char *parent = nullptr) {
    define("OfxParamTypePushButton", words, parent);
  }

  void page(const Words &words) {
    const std::vector<const char *> children = defined_;
    const OfxPropertySetHandle set = define("OfxParamTypePage", words, nullptr);
    int index = 0;
    for (const char *name : children) set_text(set, "OfxParamPropPageChild", name, index++);
  }

 private:
  OfxPropertySetHandle define(const char *type, const Words &words, const char *parent) {
    OfxPropertySetHandle set = nullptr;
    if (host.parameter->paramDefine(set_, type, words.name, &set) != kOfxStatOK || !set)
      return nullptr;  // the knob is missing then, and its default is used
    set_labels(set, words.label);
    set_text(set, "OfxParamPropScriptName", words.name);
    set_text(set, "OfxParamPropHint", words.hint);
    if (parent) set_text(set, "OfxParamPropParent", parent);
    defined_.push_back(words.name);
    return set;
  }

  static void still(OfxPropertySetHandle set) {
    set_int(set, "OfxParamPropAnimates", 0);
    set_int(set, "OfxParamPropPersistant", 1);
    set_int(set, "OfxParamPropEvaluateOnChange", 1);
  }

  OfxParamSetHandle set_;
  std::vector<const char *> defined_;
};

constexpr const char *kCleanUp = "cleanUp";

// In the order in which it is done. Lengths and areas are of the full-size frame.
void define_clean_up(Parameters &made) {
  made.group({kCleanUp, "Clean-up",
              "Changes to the matte and its colours behind the model, from top to bottom. "
              "Everything is off by default."});
  made.truth({kSwitches[0].knob, "Hint sharpen",
              "Alpha becomes 0 outside AlphaHint, which is made larger first. Hair that the hint "
              "does not cover is lost."},
             false, kCleanUp);
  made.whole(kLengths[0], "Hint larger by", "In pixels.", 50, kCleanUp);
  made.whole(kLengths[1], "Hint softness", "In pixels to each side of its edge.", 50, kCleanUp);
  made.truth({kSwitches[1].knob, "Source passthrough",
              "Inside the subject, where alpha is above 0.95, the colour is Source's own."},
             false, kCleanUp);
  made.whole(kLengths[2], "Inside smaller by", "In pixels.", 50, kCleanUp);
  made.whole(kLengths[3], "Inside softness", "In pixels to each side of its edge.", 50, kCleanUp);
  made.truth({kSwitches[2].knob, "Despeckle",
              "Remove small islands of alpha. Soft alpha far from every larger one goes with them."},
             false, kCleanUp);
  made.whole(kArea, "Smallest island", "Area in pixels of the smallest island that stays.", 5000,
             kCleanUp);
  made.whole(kLengths[4], "Keep around", "In pixels around the islands that stay.", 100, kCleanUp);
  made.whole(kLengths[5], "Keep softness", "In pixels to each side of its edge.", 50, kCleanUp);
  made.fraction(kThreshold, "Island above", "Alpha above which a pixel belongs to an island.",
                kCleanUp);
  made.truth({kSwitches[3].knob, "Keep what is connected",
              "Keep all soft alpha that is connected to an island that stays: hair, motion blur."},
             false, kCleanUp);
  made.fraction(kDespill, "Despill",
                "How much of the screen's light is taken out of the colours; 0: none.", kCleanUp);
  made.choice({"spillMethod", "Spill above",
               "What of the screen's channel is spill: what is above the mean of the other two, "
               "above the larger of them, or above their mean without making up for it in those."},
              {"Average", "Double limit", "Screen only"}, 0, kCleanUp);
  made.choice({"screen", "Screen", "The colour of the spill."}, {"Green", "Blue", "Model's own"}, 2,
              kCleanUp);
}

// In the order of the panel. A name never changes and is never used for anything else, because
// scripts and projects contain it.
void define_parameters(OfxParamSetHandle set) {
  Parameters made(set);
  made.text({"model", "Model",
             "Name of a model that the daemon knows: `mattebridge models` lists "
             "them. `default` is the daemon's default model."},
            "default");
  made.choice({"outputMode", "Output",
               "What the node gives: the subject over black, its straight colour "
               "with the matte in alpha, or the matte in all channels. The subject over black is "
               "colour x alpha in linear light, encoded again where the input colour is sRGB."},
              {"Premultiplied RGBA", "Foreground + alpha (straight)", "Matte"}, default_output());
  made.choice({"inputColor", "Input colour",
               "Colour space of Source and Background: scene-linear, or "
               "display-encoded sRGB. A wrong choice gives a plausible, wrong matte. Where the host "
               "says which space its pictures are in (OpenFX 1.5), that one is used."},
              {"Linear Rec.709", "sRGB display"}, default_input_color());
  made.choice({"foregroundSource", "Foreground from",
               "Where the subject's colour comes from: the "
               "model, the plate with the clean plate taken out, or the plate as it is."},
              {"Model", "Unmix", "Plate"}, 0);
  made.choice({"alignment", "Align clean plate",
               "Fit the clean plate to the plate before keying: "
               "off, automatic, always by homography, or the model's default."},
              {"Off", "Automatic", "Homography", "Model's own"}, 3);
  made.truth({"useBackground", "Use Background",
              "Off: Background counts as not connected, "
              "for hosts that send black for an unconnected input."});
  made.truth({"useHint", "Use AlphaHint", "Off: AlphaHint counts as not connected."});
  made.text({"cleanPlate", "Held clean plate",
             "Name of a clean plate that the daemon holds. "
             "Used when Background is not connected, for hosts with one input."},
            "");
  made.button({"startDaemon", "Start daemon",
               "Start the configured daemon on this machine, if none runs."});
  made.button({"daemonStatus", "Daemon status", "Look which daemon runs and what it is doing."});
  made.line({"daemonFound", "Daemon found", "Which daemon was found, or why none."},
            kNotLooked);
  define_clean_up(made);
  made.group({kAdvanced, "Advanced", "Errors, time limit, and which daemon to use."});
  made.choice({"hintChannel", "Hint channel",
               "Which channel of AlphaHint is the hint, if it has several."},
              {"Alpha", "Red", "Luma"}, 0, kAdvanced);
  made.choice({"onError", "On error",
               "Fail stops the render with a message. The other two continue "
               "with a picture that is not a matte, and a warning."},
              {"Fail", "Pass source", "Transparent black"}, 0, kAdvanced);
  made.choice({"nonfinite", "NaN and infinity",
               "What pixels of the inputs that are no numbers do: the frame fails and says how many "
               "there are, or they count as zero."},
              {"Error", "Zero"}, 0, kAdvanced);
  made.choice({"premultiply", "Multiply in",
               "How premultiplied RGBA is made: colour x alpha in linear light, or encoded colour x "
               "alpha for hosts that composite encoded values, which needs the input colour sRGB."},
              {"Linear light", "Display values"}, 0, kAdvanced);
  made.seconds({"timeout", "Time limit (s)",
                "How long one frame may take after its inputs are rendered, "
                "including the time it waits for other frames."},
               kDefaultTimeout, kAdvanced);
  made.text({"endpoint", "Daemon",
             "Instance name, or absolute path of the daemon's folder. Empty: "
             "MATTEBRIDGE_RUNTIME_DIR, else MATTEBRIDGE_INSTANCE, else the default one."},
            "", kAdvanced);
  made.button({"refresh", "Render again",
               "Drop the frames that the host has cached for this node and "
               "render them again."},
              kAdvanced);
  made.counter({"refreshCount", "Refresh count", "Incremented by the button."}, kAdvanced);
  made.page({"Controls", "Controls", "All knobs."});
}

}  // namespace

int default_input_color() {
  for (const char *name :
       {"uk.co.thefoundry.nuke", "fr.inria.Natron", "com.blackmagicdesign.Fusion"})
    if (host.called(name)) return kLinear;
  const bool natron = get_int(host.given->host, "NatronOfxHostIsNatron", 0) != 0;
  return natron ? kLinear : kSrgb;
}

// MLT ignores how the output is premultiplied and multiplies it by its alpha itself.
int default_output() {
  return static_cast<int>(host.called("MLT") ? Output::Straight : Output::Premultiplied);
}

OfxStatus describe(OfxImageEffectHandle descriptor) {
  OfxPropertySetHandle set = nullptr;
  if (host.effect->getPropertySet(descriptor, &set) != kOfxStatOK || !set)
    return kOfxStatErrBadHandle;
  set_labels(set, "MatteBridge");
  set_int(set, "OfxPropVersion", kMajor, 0);
  set_int(set, "OfxPropVersion", kMinor, 1);
  set_text(set, "OfxPropVersionLabel", kVersion);
  set_text(
      set, "OfxPropPluginDescription",
      "Mattes a plate against its clean plate with the models of the mattebridge daemon. Start "
      "the daemon with the button Start daemon, or `mattebridge serve --detach`.");
  set_text(set, "OfxImageEffectPluginPropGrouping", "Keyer");
  set_texts(set, "OfxImageEffectPropSupportedContexts", {kFilter, kGeneral});
  set_texts(set, "OfxImageEffectPropSupportedPixelDepths",
            {"OfxBitDepthFloat", "OfxBitDepthHalf", "OfxBitDepthShort", "OfxBitDepthByte"});
  set_text(set, "OfxImageEffectPluginRenderThreadSafety", "OfxImageEffectRenderInstanceSafe");
  set_int(set, "OfxImageEffectPropSupportsMultiResolution", 1);
  // Hosts assume that these are on unless a plugin sets them.
  for (const char *name :
       {"OfxImageEffectPluginPropSingleInstance", "OfxImageEffectPluginPropHostFrameThreading",
        "OfxImageEffectPropSupportsTiles", "OfxImageEffectPropTemporalClipAccess",
        "OfxImageEffectPluginPropFieldRenderTwiceAlways", "OfxImageEffectPropMultipleClipDepths",
        "OfxImageEffectPropSupportsMultipleClipPARs", "OfxImageEffectInstancePropSequentialRender"})
    set_int(set, name, 0);
  set_text(set, "OfxImageEffectPropClipPreferencesSlaveParam", "outputMode");
  describe_colour(set);
  return kOfxStatOK;
}

OfxStatus describe_in_context(OfxImageEffectHandle descriptor, OfxPropertySetHandle in) {
  const bool general = get_text(in, "OfxImageEffectPropContext", kFilter) == kGeneral;
  define_clips(descriptor, general);
  OfxParamSetHandle set = nullptr;
  if (host.effect->getParamSet(descriptor, &set) == kOfxStatOK && set) define_parameters(set);
  return kOfxStatOK;
}

OfxStatus clip_preferences(OfxImageEffectHandle effect, OfxPropertySetHandle out) {
  const Instance *known = Instance::of(effect);
  const Instance fallback(effect);
  const Instance &node = known ? *known : fallback;
  if (get_text(node.properties(), "OfxImageEffectPropContext") == kGeneral)
    set_text(out, "OfxImageClipPropComponents_Output", kRgba);
  set_text(out, "OfxImageEffectPropPreMultiplication",
           node.whole("outputMode", 0, default_output()) == 1 ? "OfxImageAlphaUnPremultiplied"
                                               : "OfxImageAlphaPremultiplied");
  prefer_colours(node, out);
  return kOfxStatOK;
}

OfxStatus regions_of_interest(OfxImageEffectHandle effect, OfxPropertySetHandle in,
                              OfxPropertySetHandle out) {
  const OfxTime time = get_double(in, "OfxPropTime", 0);
  const Instance node(effect);
  for (const char *name : {kSource, kBackground, kAlphaHint}) {
    OfxPropertySetHandle set = nullptr;
    const OfxImageClipHandle clip = node.clip(name, &set);
    if (!clip || !get_int(set, "OfxImageClipPropConnected", 0)) continue;
    OfxRectD whole{0, 0, 0, 0};
    if (host.effect->clipGetRegionOfDefinition(clip, time, &whole) != kOfxStatOK) continue;
    if (!(whole.x2 > whole.x1) || !(whole.y2 > whole.y1)) continue;
    const std::string property = std::string("OfxImageClipPropRoI_") + name;
    const double corners[] = {whole.x1, whole.y1, whole.x2, whole.y2};
    for (int index = 0; index < 4; ++index)
      set_double(out, property.c_str(), corners[index], index);
  }
  return kOfxStatOK;
}

}  // namespace mb
