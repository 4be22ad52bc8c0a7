#include "render.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "colour.h"
#include "describe.h"
#include "failure.h"
#include "folder.h"
#include "labels.h"
#include "pixels.h"
#include "session.h"

namespace mb {
namespace {

constexpr int kMaxSide = 32768;
constexpr const char *kPremultiplied = "OfxImageAlphaPremultiplied";

// The arguments of this render call.
struct Ask {
  OfxTime time = 0;
  OfxRectI window{0, 0, 0, 0};
  double scale[2] = {1, 1};
  bool windowed = false, interactive = false, draft = false;
};

// The values of the node's knobs at this time.
struct Knobs {
  std::string model, endpoint, clean_plate;
  Output mode = Output::Premultiplied;
  int color = kLinear, hint = kHintAlpha, on_error = kFail, foreground = 0, alignment = 3,
      nonfinite = 0, premultiply = 0;
  bool use_background = true, use_hint = true;
  double timeout = kDefaultTimeout;
  mpack::Map clean_up;
  Colours colours;
};

// An input that is connected and has an image.
struct Input {
  FetchedImage fetched;
  Image image;
  bool premultiplied = false;
  double pixel_aspect = 1;
};

Ask read_ask(const Instance &node, OfxPropertySetHandle in) {
  Ask ask;
  ask.time = get_double(in, "OfxPropTime", 0);
  ask.windowed = get_rectangle(in, "OfxImageEffectPropRenderWindow", ask.window);
  for (int axis = 0; axis < 2; ++axis)
    ask.scale[axis] = get_double(in, "OfxImageEffectPropRenderScale", 1, axis);
  ask.interactive = get_int(in, "OfxImageEffectPropInteractiveRenderStatus", 0) ||
                    get_int(node.properties(), "OfxPropIsInteractive", 0);
  ask.draft = get_int(in, "OfxImageEffectPropRenderQualityDraft", 0) != 0;
  return ask;
}

// The knobs of the clean-up as render parameters, at the render's scale; none if all of it is off.
// A value that is the daemon's default is left out.
mpack::Map read_clean_up(const Instance &node, const Ask &ask) {
  mpack::Map params;
  const auto fraction = [&](const Fraction &knob) {
    const double value = node.real(knob.knob, ask.time, knob.value);
    return std::isfinite(value) ? std::clamp(value, 0.0, 1.0) : knob.value;
  };
  const double despill = fraction(kDespill), threshold = fraction(kThreshold);
  for (const Switch &knob : kSwitches)
    if (node.whole(knob.knob, ask.time, 0)) params.emplace_back(knob.param, true);
  if (params.empty() && despill == 0) return params;
  const double area = ask.scale[0] * ask.scale[1];
  const double scale = std::isfinite(area) && area > 0 ? area : 1.0;
  const auto whole = [&](const Whole &knob, double factor) {
    const int given = std::clamp(node.whole(knob.knob, ask.time, knob.value), 0, knob.highest);
    const double least = given && &knob == &kArea ? 1.0 : 0.0;
    const double value = std::clamp(std::floor(given * factor + 0.5), least, knob.highest * 1.0);
    if (value != knob.value) params.emplace_back(knob.param, static_cast<int64_t>(value));
  };
  for (const Whole &knob : kLengths) whole(knob, std::sqrt(scale));
  whole(kArea, scale);
  if (threshold != kThreshold.value) params.emplace_back(kThreshold.param, threshold);
  if (despill != kDespill.value) params.emplace_back(kDespill.param, despill);
  const int method = std::clamp(node.whole("spillMethod", ask.time, 0), 0, 2);
  if (method) params.emplace_back("spill_method", kSpillMethods[method]);
  const int screen = std::clamp(node.whole("screen", ask.time, 2), 0, 2);
  if (screen < 2) params.emplace_back("screen", kScreens[screen]);
  return params;
}

Knobs read_knobs(const Instance &node, const Ask &ask) {
  const OfxTime time = ask.time;
  Knobs knobs;
  const auto option = [&](const char *name, int otherwise, int last) {
    return std::clamp(node.whole(name, time, otherwise), 0, last);
  };
  knobs.model = node.text("model", time);
  if (knobs.model.empty()) knobs.model = "default";
  knobs.endpoint = node.text("endpoint", time);
  knobs.clean_plate = node.text("cleanPlate", time);
  knobs.mode = static_cast<Output>(option("outputMode", default_output(), 2));
  knobs.color = option("inputColor", default_input_color(), 1);
  knobs.hint = option("hintChannel", 0, 2);
  knobs.on_error = option("onError", 0, 2);
  knobs.nonfinite = option("nonfinite", 0, 1);
  knobs.premultiply = option("premultiply", 0, 1);
  knobs.foreground = option("foregroundSource", 0, 2);
  knobs.alignment = option("alignment", 3, 3);
  knobs.use_background = option("useBackground", 1, 1) != 0;
  knobs.use_hint = option("useHint", 1, 1) != 0;
  const double timeout = node.real("timeout", time, kDefaultTimeout);
  knobs.timeout = std::isfinite(timeout) ? std::clamp(timeout, 1.0, 3600.0) : kDefaultTimeout;
  knobs.clean_up = read_clean_up(node, ask);
  return knobs;
}

// ---------------------------------------------------------------------------------------------
// Images

int components_of(const std::string &name) {
  return name == "OfxImageComponentRGBA"    ? 4
         : name == "OfxImageComponentRGB"   ? 3
         : name == "OfxImageComponentAlpha" ? 1
                                            : 0;
}

std::optional<Sample> sample_of(const std::string &name) {
  if (name == "OfxBitDepthByte") return Sample::Byte;
  if (name == "OfxBitDepthShort") return Sample::Short;
  if (name == "OfxBitDepthHalf") return Sample::Half;
  if (name == "OfxBitDepthFloat") return Sample::Float;
  return std::nullopt;
}

// The image of a property set; Failure if it cannot be addressed safely.
Image image_of(OfxPropertySetHandle set, OfxPropertySetHandle clip, const char *clip_name) {
  const auto named = [&](const char *property) {
    const std::string found = get_text(set, property);
    return found.empty() ? get_text(clip, property) : found;
  };
  Image image;
  image.data = static_cast<uint8_t *>(get_pointer(set, "OfxImagePropData"));
  image.row_bytes = get_int(set, "OfxImagePropRowBytes", 0);
  image.components = components_of(named("OfxImageEffectPropComponents"));
  const std::optional<Sample> sample = sample_of(named("OfxImageEffectPropPixelDepth"));
  const bool bounded = get_rectangle(set, "OfxImagePropBounds", image.bounds);
  const std::string who = std::string("the image of ") + clip_name;
  if (!image.components || !sample)
    throw Failure("E_DTYPE", who + " has components '" + named("OfxImageEffectPropComponents") +
                                 "' of depth '" + named("OfxImageEffectPropPixelDepth") +
                                 "', which this plugin does not support");
  image.sample = *sample;
  const int64_t width = int64_t{image.bounds.x2} - image.bounds.x1;
  const int64_t height = int64_t{image.bounds.y2} - image.bounds.y1;
  if (!bounded || width < 1 || height < 1 || width > kMaxSide || height > kMaxSide)
    throw Failure("E_GEOMETRY", who + " has the bounds " + text_of(image.bounds) +
                                    ": sides may be from 1 to 32768");
  if (std::abs(image.row_bytes) < width * image.pixel_bytes() && height > 1)
    throw Failure("E_GEOMETRY", who + " has rows of " + std::to_string(image.row_bytes) +
                                    " bytes for " + std::to_string(width) +
                                    " pixels: this is a fault of the host");
  return image;
}

bool premultiplied(OfxPropertySetHandle set, OfxPropertySetHandle clip, int components) {
  if (components != 4) return false;
  std::string state = get_text(set, "OfxImageEffectPropPreMultiplication");
  if (state.empty()) state = get_text(clip, "OfxImageEffectPropPreMultiplication");
  return state == kPremultiplied;
}

// Fetches a clip; nothing if the host has no image for it, in any of the ways hosts report that.
std::optional<Input> fetch(const Instance &node, const char *name, OfxTime time, bool optional) {
  OfxPropertySetHandle clip_set = nullptr;
  const OfxImageClipHandle clip = node.clip(name, &clip_set);
  // MLT never sets Connected: an optional input then counts as not connected; Source is fetched.
  if (!clip || (optional && !get_int(clip_set, "OfxImageClipPropConnected", 0)))
    return std::nullopt;
  Input input;
  input.fetched = FetchedImage(clip, time, nullptr);
  if (!get_pointer(input.fetched.set(), "OfxImagePropData")) return std::nullopt;
  input.image = image_of(input.fetched.set(), clip_set, name);
  OfxRectI whole{0, 0, 0, 0};
  const bool known = get_rectangle(input.fetched.set(), "OfxImagePropRegionOfDefinition", whole);
  if (known && !contains(input.image.bounds, whole) && !empty(whole)) {
    // A model keys half a frame as another picture: ask for the whole region explicitly.
    OfxRectD region{0, 0, 0, 0};
    if (host.effect->clipGetRegionOfDefinition(clip, time, &region) == kOfxStatOK) {
      FetchedImage again(clip, time, &region);
      if (get_pointer(again.set(), "OfxImagePropData")) {
        input.image = image_of(again.set(), clip_set, name);
        input.fetched = std::move(again);
        get_rectangle(input.fetched.set(), "OfxImagePropRegionOfDefinition", whole);
      }
    }
    if (!optional && !contains(input.image.bounds, whole))
      throw Failure("E_INPUTS", "the host gives " + text_of(input.image.bounds) + " of " + name +
                                    ", which is " + text_of(whole) +
                                    ": render whole frames, without tiles");
  }
  if (optional && host.called("DaVinciResolve") && all_zero(input.image)) return std::nullopt;
  input.premultiplied = premultiplied(input.fetched.set(), clip_set, input.image.components);
  input.pixel_aspect = get_double(input.fetched.set(), "OfxImagePropPixelAspectRatio", 1);
  return input;
}

// ---------------------------------------------------------------------------------------------
// The request

struct Inputs {
  Input source;
  std::optional<Input> background, hint;
  // The hint's alpha was chosen and holds nothing: its luma is taken.
  bool luma_hint = false;
};

Inputs fetch_inputs(const Instance &node, const Knobs &knobs, OfxTime time) {
  Inputs inputs;
  std::optional<Input> source = fetch(node, kSource, time, false);
  if (!source) throw Failure("E_INPUTS", "nothing is connected to Source: connect the plate");
  inputs.source = std::move(*source);
  if (inputs.source.image.components == 1)
    throw Failure("E_INPUTS", "Source has one channel: connect an RGB or RGBA plate");
  if (knobs.use_background) inputs.background = fetch(node, kBackground, time, true);
  if (knobs.use_hint) inputs.hint = fetch(node, kAlphaHint, time, true);
  inputs.luma_hint = inputs.hint && knobs.hint == kHintAlpha && alpha_is_empty(inputs.hint->image);
  if (!inputs.background) return inputs;
  const Image &background = inputs.background->image;
  if (background.components == 1)
    throw Failure("E_INPUTS", "Background has one channel: connect the RGB or RGBA clean plate");
  if (!contains(background.bounds, inputs.source.image.bounds))
    throw Failure("E_INPUTS", "Background covers " + text_of(background.bounds) +
                                  " and Source is " + text_of(inputs.source.image.bounds) +
                                  ": reformat the clean plate to the plate");
  return inputs;
}

struct Source {
  const Image *image;
  Pick pick;
};

// How plate and clean plate are sent, so that one `plate_alpha` is right for both.
void pick_colours(const Inputs &inputs, Pick &plate, Pick &clean, const char *&meaning) {
  const bool source = inputs.source.premultiplied;
  const bool background = inputs.background && inputs.background->premultiplied;
  plate = clean = Pick::Whole;
  meaning = source || background ? "premultiplied" : "opaque";
  if (background && !source) plate = Pick::Covered;
  if (inputs.background && source && !background && inputs.background->image.components == 4)
    clean = Pick::Covered;
}

Pick hint_pick(const Image &image, int channel) {
  if (image.components == 1) return Pick::Whole;
  if (channel == kHintLuminance) return Pick::Luminance;
  return channel == kHintRed || image.components == 3 ? Pick::Red : Pick::Alpha;
}

// Always float: in half, foreground, alpha and their product would each be rounded.
std::vector<Plane> outputs_of(Output mode) {
  const auto plane = [](const char *role, int channels) {
    Plane made;
    made.role = role;
    made.channels = channels;
    return made;
  };
  if (mode == Output::Premultiplied) return {plane("premultiplied", 4)};
  if (mode == Output::Straight) return {plane("foreground", 3), plane("alpha", 1)};
  return {plane("alpha", 1)};
}

mpack::Map fields_of(const Ask &ask, const Knobs &knobs, const Inputs &inputs,
                     const char *meaning) {
  const char *by_knob = knobs.color == kLinear ? "linear" : "srgb";
  mpack::Map params{{"colorspace", knobs.colours.space.empty() ? by_knob : knobs.colours.space},
                    {"premultiply", kPremultiplies[knobs.premultiply]},
                    {"plate_alpha", meaning},
                    {"foreground", kForegroundSources[knobs.foreground]},
                    {"nonfinite", kNonFinite[knobs.nonfinite]}};
  if (knobs.alignment < 3) params.emplace_back("alignment", kAlignments[knobs.alignment]);
  params.insert(params.end(), knobs.clean_up.begin(), knobs.clean_up.end());
  mpack::Map notes{{"host", mpack::clean_text(host.name, 128)}, {"draft", ask.draft}};
  const auto finite = [](double value) { return std::isfinite(value) ? value : 1.0; };
  notes.emplace_back("time", finite(ask.time));
  notes.emplace_back("par", finite(inputs.source.pixel_aspect));
  notes.emplace_back("scale", mpack::Array{finite(ask.scale[0]), finite(ask.scale[1])});
  const double number = std::clamp(std::floor(finite(ask.time)), -2147483648.0, 2147483647.0);
  mpack::Map fields{{"model", knobs.model},
                    {"params", params},
                    {"priority", ask.interactive ? "interactive" : "batch"},
                    {"frame", static_cast<int64_t>(number)},
                    {"ext", notes}};
  if (!inputs.background && knobs.use_background && !knobs.clean_plate.empty())
    fields.emplace_back("clean_plate", knobs.clean_plate);
  return fields;
}

// The daemon would drop a request with a longer text as an invalid message.
void check_name(const std::string &name, const char *knob) {
  bool good = !name.empty() && name.size() <= 64;
  for (const char c : name)
    good = good && ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || std::strchr("._-", c));
  if (!good)
    throw Failure("E_MESSAGE",
                  std::string(knob) + " '" + name.substr(0, 64) +
                      "' is not a valid name: use a to z, 0 to 9, dot, dash and underscore, "
                      "at most 64 characters");
}

// The whole frame: sends the inputs, and writes the result into the output.
std::vector<std::string> matte(const Ask &ask, const Knobs &knobs, const Inputs &inputs,
                               const Image &output, const Watch &watch) {
  check_name(knobs.model, "Model");
  if (!knobs.clean_plate.empty()) check_name(knobs.clean_plate, "Held clean plate");
  Pick plate, clean;
  const char *meaning;
  pick_colours(inputs, plate, clean, meaning);
  std::vector<std::pair<std::string, Source>> sources;
  sources.emplace_back("plate", Source{&inputs.source.image, plate});
  if (inputs.background)
    sources.emplace_back("clean_plate", Source{&inputs.background->image, clean});
  const int channel = inputs.luma_hint ? kHintLuminance : knobs.hint;
  if (inputs.hint)
    sources.emplace_back("alpha_hint",
                         Source{&inputs.hint->image, hint_pick(inputs.hint->image, channel)});

  const OfxRectI rectangle = inputs.source.image.bounds;
  const AbortCheck check = [&] { watch.check(); };
  Frame frame;
  frame.folder = runtime_folder(knobs.endpoint);
  frame.host = host.name;
  frame.color_config = knobs.colours.config;
  frame.width = rectangle.x2 - rectangle.x1;
  frame.height = rectangle.y2 - rectangle.y1;
  frame.fields = fields_of(ask, knobs, inputs, meaning);
  frame.outputs = outputs_of(knobs.mode);
  for (const auto &source : sources)
    frame.inputs.push_back(
        plane_for(source.first.c_str(), *source.second.image, source.second.pick));
  frame.fill = [&](const Plane &plane, uint8_t *rows) {
    for (const auto &source : sources)
      if (source.first == plane.role)
        copy_in(*source.second.image, rectangle, source.second.pick, plane, rows, check);
  };
  frame.collect = [&](const std::vector<Plane> &planes, const uint8_t *arena) {
    Result result{knobs.mode, rectangle, &planes[0], planes.size() > 1 ? &planes[1] : nullptr,
                  arena};
    copy_out(result, ask.window, output, check);
  };
  std::vector<std::string> less = render(frame, watch);
  if (inputs.luma_hint) less.push_back("matte_from_luma");
  return less;
}

std::string sentence_of(const std::string &word) {
  for (const Label &label : kLabels)
    if (word == label.word) return label.sentence;
  return "the daemon reports '" + mpack::clean_text(word, 64) +
         "', which this version does not know: update mattebridge here";
}

std::string listed(const std::vector<std::string> &words) {
  std::string text;
  for (const std::string &word : words) text += (text.empty() ? "" : "; ") + sentence_of(word);
  return text;
}

// A frame that failed: fills the window, shows the message, returns the status for the host.
OfxStatus fail(Instance &node, const Ask &ask, const Knobs &knobs, const Image *output,
               const std::string &sentence) {
  if (output) clear(ask.window, *output);
  if (knobs.on_error == kFail || !output) {
    node.show("OfxMessageError", sentence);
    return kOfxStatFailed;
  }
  if (knobs.on_error == kPassSource) {
    try {
      if (const auto source = fetch(node, kSource, ask.time, false))
        copy_across(source->image, ask.window, *output);
    } catch (const Failure &) {
      clear(ask.window, *output);  // the source cannot be read
    }
  }
  node.show("OfxMessageWarning", sentence);
  return kOfxStatOK;
}

OfxStatus render_node(Instance &node, OfxPropertySetHandle in) {
  Ask ask = read_ask(node, in);
  Knobs knobs = read_knobs(node, ask);
  OfxPropertySetHandle clip_set = nullptr;
  const OfxImageClipHandle clip = node.clip(kOutput, &clip_set);
  const FetchedImage fetched(clip, ask.time, nullptr);
  std::optional<Image> output;
  try {
    if (!get_pointer(fetched.set(), "OfxImagePropData"))
      throw Failure("E_INPUTS", "the host provides no output image");
    output = image_of(fetched.set(), clip_set, kOutput);
    if (!ask.windowed) ask.window = output->bounds;
    if (empty(ask.window)) return kOfxStatOK;
    // Upstream nodes render here, before a session is taken, so chained nodes never wait for a
    // session that a node below them holds.
    const Inputs inputs = fetch_inputs(node, knobs, ask.time);
    knobs.colours = colours_of(node, inputs.background.has_value());
    const OfxImageEffectHandle effect = node.effect();
    const Watch watch(knobs.timeout, [effect] { return host.effect->abort(effect) != 0; });
    const std::vector<std::string> degraded = matte(ask, knobs, inputs, *output, watch);
    if (degraded.empty()) node.clear_message();
    else node.show("OfxMessageWarning", "less than asked for: " + listed(degraded));
    return kOfxStatOK;
  } catch (const Aborted &) {
    return kOfxStatOK;  // the host drops this frame
  } catch (const Failure &failure) {
    return fail(node, ask, knobs, output ? &*output : nullptr, failure.what());
  } catch (const std::bad_alloc &) {
    fail(node, ask, knobs, output ? &*output : nullptr, "the host is out of memory");
    return knobs.on_error == kFail ? kOfxStatErrMemory : kOfxStatOK;
  }
}

}  // namespace

OfxStatus render_action(OfxImageEffectHandle effect, OfxPropertySetHandle in) {
  if (Instance *known = Instance::of(effect)) return render_node(*known, in);
  Instance node(effect);  // the host did not keep the pointer
  return render_node(node, in);
}

}  // namespace mb
