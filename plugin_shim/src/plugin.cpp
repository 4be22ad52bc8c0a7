// The two functions of OpenFX, and the actions behind them. No exception leaves main_entry.
#include <cstring>
#include <new>

#include "colour.h"
#include "daemon_panel.h"
#include "describe.h"
#include "failure.h"
#include "folder.h"
#include "render.h"
#include "session.h"
#include "version.h"

namespace mb {
namespace {

OfxStatus create_instance(OfxImageEffectHandle effect) {
  Instance *made = new Instance(effect);
  if (host.property->propSetPointer(made->properties(), "OfxPropInstanceData", 0, made) !=
      kOfxStatOK)
    delete made;  // each action then makes its own
  return kOfxStatOK;
}

OfxStatus destroy_instance(OfxImageEffectHandle effect) {
  Instance *made = Instance::of(effect);
  if (made) host.property->propSetPointer(made->properties(), "OfxPropInstanceData", 0, nullptr);
  delete made;
  return kOfxStatOK;
}

// What the line in the panel says; `ask` gives it for the folder of the node's daemon.
void say_daemon(OfxImageEffectHandle effect, std::string (*ask)(const std::string &folder)) {
  Instance node(effect);
  std::string text;
  try {
    text = ask(runtime_folder(node.text("endpoint", 0)));
  } catch (const Failure &failure) {
    text = failure.what();
  }
  node.set_text("daemonFound", text);
}

// The artist connects an input or turns a knob: the first time, the panel's line is filled. Not when
// the instance is made or its panel opened, where a plugin may set no parameter.
OfxStatus look_once(OfxImageEffectHandle effect) {
  if (Instance(effect).text("daemonFound", 0) != kNotLooked) return kOfxStatReplyDefault;
  say_daemon(effect, daemon_glance);
  return kOfxStatOK;
}

OfxStatus instance_changed(OfxImageEffectHandle effect, OfxPropertySetHandle in) {
  if (get_text(in, "OfxPropChangeReason") != "OfxChangeUserEdited") return kOfxStatReplyDefault;
  if (get_text(in, "OfxPropType") != "OfxTypeParameter") return look_once(effect);
  const std::string name = get_text(in, "OfxPropName");
  if (name == "refresh") Instance(effect).refresh();
  else if (name == "startDaemon") say_daemon(effect, start_daemon);
  else if (name == "daemonStatus" || name == "endpoint") say_daemon(effect, daemon_line);
  else return look_once(effect);
  return kOfxStatOK;
}

OfxStatus act(const char *action, OfxImageEffectHandle effect, OfxPropertySetHandle in,
              OfxPropertySetHandle out) {
  const auto is = [action](const char *name) { return std::strcmp(action, name) == 0; };
  if (is("OfxActionLoad")) return host.load() ? kOfxStatOK : kOfxStatErrMissingHostFeature;
  if (is("OfxActionUnload")) {
    close_sessions();
    forget_start();
    return kOfxStatOK;
  }
  if (!host.property || !effect) return kOfxStatReplyDefault;
  if (is("OfxActionDescribe")) return describe(effect);
  if (is("OfxImageEffectActionDescribeInContext")) return describe_in_context(effect, in);
  if (is("OfxActionCreateInstance")) return create_instance(effect);
  if (is("OfxActionDestroyInstance")) return destroy_instance(effect);
  if (is("OfxActionInstanceChanged")) return instance_changed(effect, in);
  if (is("OfxImageEffectActionGetClipPreferences")) return clip_preferences(effect, out);
  if (is("OfxImageEffectActionGetOutputColourspace")) return output_colourspace(effect, out);
  if (is("OfxImageEffectActionGetRegionsOfInterest")) return regions_of_interest(effect, in, out);
  if (is("OfxImageEffectActionRender")) return render_action(effect, in);
  return kOfxStatReplyDefault;
}

OfxStatus main_entry(const char *action, const void *handle, OfxPropertySetHandle in,
                     OfxPropertySetHandle out) {
  try {
    if (!action) return kOfxStatReplyDefault;
    const auto effect = static_cast<OfxImageEffectHandle>(const_cast<void *>(handle));
    return act(action, effect, in, out);
  } catch (const std::bad_alloc &) {
    return kOfxStatErrMemory;
  } catch (...) {
    return kOfxStatFailed;
  }
}

void set_host(OfxHost *given) { host.given = given; }

OfxPlugin plugin{"OfxImageEffectPluginAPI",
                 1,
                 "org.mattebridge.MatteBridge",
                 kMajor,
                 kMinor,
                 set_host,
                 main_entry};

}  // namespace
}  // namespace mb

MB_OFX_EXPORT int OfxGetNumberOfPlugins(void) { return 1; }

MB_OFX_EXPORT OfxPlugin *OfxGetPlugin(int nth) { return nth == 0 ? &mb::plugin : nullptr; }
