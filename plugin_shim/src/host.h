// The OpenFX host: suites and properties may be missing, and a host's strings are valid only until
// the next call.
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "ofx_abi.h"

namespace mb {

inline constexpr const char *kSource = "Source", *kBackground = "Background";
inline constexpr const char *kAlphaHint = "AlphaHint", *kOutput = "Output";

// Set by the action Load, only read afterwards.
struct Host {
  OfxHost *given = nullptr;
  const OfxPropertySuiteV1 *property = nullptr;
  const OfxImageEffectSuiteV1 *effect = nullptr;
  const OfxParameterSuiteV1 *parameter = nullptr;
  const OfxMessageSuiteV1 *message1 = nullptr;
  const OfxMessageSuiteV2 *message2 = nullptr;
  char name[128] = "";

  bool load();  // false where a suite that is needed is missing
  bool called(const char *start) const;
};
extern Host host;

// Reading: a property that is missing, of another type or NULL gives `otherwise`.
std::string get_text(OfxPropertySetHandle set, const char *name, const char *otherwise = "");
int get_int(OfxPropertySetHandle set, const char *name, int otherwise, int index = 0);
double get_double(OfxPropertySetHandle set, const char *name, double otherwise, int index = 0);
void *get_pointer(OfxPropertySetHandle set, const char *name);
bool get_rectangle(OfxPropertySetHandle set, const char *name, OfxRectI &rectangle);

// Writing: a property that the host refuses is left out.
void set_text(OfxPropertySetHandle set, const char *name, const std::string &value, int index = 0);
void set_int(OfxPropertySetHandle set, const char *name, int value, int index = 0);
void set_double(OfxPropertySetHandle set, const char *name, double value, int index = 0);

// One node: handles of its parameters, and whether it shows a message. Several renders may use it
// at once, so everything else of a render is on its stack.
class Instance {
 public:
  explicit Instance(OfxImageEffectHandle effect);
  static Instance *of(OfxImageEffectHandle effect);  // null if the host did not keep the pointer

  OfxImageEffectHandle effect() const { return effect_; }
  OfxPropertySetHandle properties() const { return properties_; }
  OfxImageClipHandle clip(const char *name, OfxPropertySetHandle *set = nullptr) const;

  int whole(const char *parameter, OfxTime time, int otherwise) const;
  double real(const char *parameter, OfxTime time, double otherwise) const;
  std::string text(const char *parameter, OfxTime time) const;

  // Shows a message at the node until it is cleared; prints it once to stderr if the host cannot.
  void show(const char *type, const std::string &text);
  void clear_message();
  void set_text(const char *parameter, const std::string &text);
  void refresh();  // adds 1 to refreshCount, so that the host renders again

 private:
  OfxParamHandle handle(const char *parameter) const;

  OfxImageEffectHandle effect_;
  OfxPropertySetHandle properties_ = nullptr;
  OfxParamSetHandle parameters_ = nullptr;
  std::mutex mutex_;
  bool shown_ = false;
  std::string last_words_;
};

// An image fetched from a clip; the destructor releases it.
class FetchedImage {
 public:
  FetchedImage() = default;
  FetchedImage(OfxImageClipHandle clip, OfxTime time, const OfxRectD *region);
  FetchedImage(FetchedImage &&other) noexcept : set_(other.set_) { other.set_ = nullptr; }
  FetchedImage &operator=(FetchedImage &&other) noexcept;
  FetchedImage(const FetchedImage &) = delete;
  ~FetchedImage();
  OfxPropertySetHandle set() const { return set_; }

 private:
  OfxPropertySetHandle set_ = nullptr;
};

}  // namespace mb
