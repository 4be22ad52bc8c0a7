#include "host.h"

#include <climits>
#include <cstdio>
#include <cstring>
#include <utility>

#include "mpack.h"

namespace mb {

Host host;

namespace {

constexpr size_t kMessageBytes = 200, kLineBytes = 1000;

template <typename Suite>
const Suite *fetch(const OfxHost *given, const char *name, int version) {
  return static_cast<const Suite *>(given->fetchSuite(given->host, name, version));
}

}  // namespace

bool Host::load() {
  if (!given || !given->fetchSuite) return false;
  property = fetch<OfxPropertySuiteV1>(given, "OfxPropertySuite", 1);
  effect = fetch<OfxImageEffectSuiteV1>(given, "OfxImageEffectSuite", 1);
  parameter = fetch<OfxParameterSuiteV1>(given, "OfxParameterSuite", 1);
  message2 = fetch<OfxMessageSuiteV2>(given, "OfxMessageSuite", 2);
  message1 = fetch<OfxMessageSuiteV1>(given, "OfxMessageSuite", 1);
  if (!property || !effect || !parameter) return false;
  const std::string found = get_text(given->host, "OfxPropName");
  std::snprintf(name, sizeof name, "%s", found.c_str());
  return true;
}

bool Host::called(const char *start) const {
  return std::strncmp(name, start, std::strlen(start)) == 0;
}

std::string get_text(OfxPropertySetHandle set, const char *name, const char *otherwise) {
  char *found = nullptr;
  if (!set || host.property->propGetString(set, name, 0, &found) != kOfxStatOK || !found)
    return otherwise;
  return found;
}

int get_int(OfxPropertySetHandle set, const char *name, int otherwise, int index) {
  int found = otherwise;
  const bool good = set && host.property->propGetInt(set, name, index, &found) == kOfxStatOK;
  return good ? found : otherwise;
}

double get_double(OfxPropertySetHandle set, const char *name, double otherwise, int index) {
  double found = otherwise;
  const bool good = set && host.property->propGetDouble(set, name, index, &found) == kOfxStatOK;
  return good ? found : otherwise;
}

void *get_pointer(OfxPropertySetHandle set, const char *name) {
  void *found = nullptr;
  const bool good = set && host.property->propGetPointer(set, name, 0, &found) == kOfxStatOK;
  return good ? found : nullptr;
}

bool get_rectangle(OfxPropertySetHandle set, const char *name, OfxRectI &rectangle) {
  int corners[4];
  for (int index = 0; index < 4; ++index)
    if (!set || host.property->propGetInt(set, name, index, &corners[index]) != kOfxStatOK)
      return false;
  rectangle = {corners[0], corners[1], corners[2], corners[3]};
  return true;
}

void set_text(OfxPropertySetHandle set, const char *name, const std::string &value, int index) {
  if (set) host.property->propSetString(set, name, index, value.c_str());
}

void set_int(OfxPropertySetHandle set, const char *name, int value, int index) {
  if (set) host.property->propSetInt(set, name, index, value);
}

void set_double(OfxPropertySetHandle set, const char *name, double value, int index) {
  if (set) host.property->propSetDouble(set, name, index, value);
}

Instance::Instance(OfxImageEffectHandle effect) : effect_(effect) {
  if (host.effect->getPropertySet(effect, &properties_) != kOfxStatOK) properties_ = nullptr;
  if (host.effect->getParamSet(effect, &parameters_) != kOfxStatOK) parameters_ = nullptr;
}

Instance *Instance::of(OfxImageEffectHandle effect) {
  OfxPropertySetHandle properties = nullptr;
  if (host.effect->getPropertySet(effect, &properties) != kOfxStatOK) return nullptr;
  return static_cast<Instance *>(get_pointer(properties, "OfxPropInstanceData"));
}

OfxImageClipHandle Instance::clip(const char *name, OfxPropertySetHandle *set) const {
  OfxImageClipHandle found = nullptr;
  OfxPropertySetHandle its_set = nullptr;
  if (host.effect->clipGetHandle(effect_, name, &found, &its_set) != kOfxStatOK) found = nullptr;
  if (set) *set = found ? its_set : nullptr;
  return found;
}

OfxParamHandle Instance::handle(const char *parameter) const {
  OfxParamHandle found = nullptr;
  if (!parameters_ ||
      host.parameter->paramGetHandle(parameters_, parameter, &found, nullptr) != kOfxStatOK)
    return nullptr;
  return found;
}

int Instance::whole(const char *parameter, OfxTime time, int otherwise) const {
  int value = otherwise;
  const OfxParamHandle found = handle(parameter);
  const bool good = found && host.parameter->paramGetValueAtTime(found, time, &value) == kOfxStatOK;
  return good ? value : otherwise;
}

double Instance::real(const char *parameter, OfxTime time, double otherwise) const {
  double value = otherwise;
  const OfxParamHandle found = handle(parameter);
  const bool good = found && host.parameter->paramGetValueAtTime(found, time, &value) == kOfxStatOK;
  return good ? value : otherwise;
}

std::string Instance::text(const char *parameter, OfxTime time) const {
  char *value = nullptr;
  const OfxParamHandle found = handle(parameter);
  const bool good = found && host.parameter->paramGetValueAtTime(found, time, &value) == kOfxStatOK;
  return good && value ? value : "";
}

void Instance::show(const char *type, const std::string &text) {
  const std::string words = mpack::clean_text("mattebridge: " + text, kMessageBytes);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (host.message2 && host.message2->setPersistentMessage &&
      host.message2->setPersistentMessage(effect_, type, "", "%s", words.c_str()) == kOfxStatOK) {
    shown_ = true;
    return;
  }
  if (std::exchange(last_words_, words) == words) return;
  const auto *plain = host.message1 && host.message1->message ? host.message1 : nullptr;
  if (!plain || plain->message(effect_, "OfxMessageLog", "", "%s", words.c_str()) != kOfxStatOK)
    std::fprintf(stderr, "%s\n", words.c_str());
}

void Instance::clear_message() {
  const std::lock_guard<std::mutex> lock(mutex_);
  last_words_.clear();
  if (!std::exchange(shown_, false)) return;
  if (host.message2 && host.message2->clearPersistentMessage)
    host.message2->clearPersistentMessage(effect_);
}

void Instance::set_text(const char *parameter, const std::string &text) {
  const std::string words = mpack::clean_text(text, kLineBytes);
  if (const OfxParamHandle found = handle(parameter))
    host.parameter->paramSetValue(found, words.c_str());
}

void Instance::refresh() {
  const OfxParamHandle counter = handle("refreshCount");
  int count = 0;
  if (!counter || host.parameter->paramGetValue(counter, &count) != kOfxStatOK) return;
  host.parameter->paramSetValue(counter, count == INT_MAX ? 0 : count + 1);
}

FetchedImage::FetchedImage(OfxImageClipHandle clip, OfxTime time, const OfxRectD *region) {
  if (!clip || host.effect->clipGetImage(clip, time, region, &set_) != kOfxStatOK) set_ = nullptr;
}

FetchedImage &FetchedImage::operator=(FetchedImage &&other) noexcept {
  std::swap(set_, other.set_);
  return *this;
}

FetchedImage::~FetchedImage() {
  if (set_) host.effect->clipReleaseImage(set_);
}

}  // namespace mb
