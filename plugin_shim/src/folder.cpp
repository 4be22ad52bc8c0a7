#include "folder.h"

#include "os.h"
#include "sha256.h"

namespace mb {
namespace {

constexpr const char *kDefaultInstance = "v1";
constexpr size_t kDoorBytes = 5;  // "/door"

bool is_instance(const std::string &name) {
  const auto small = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  if (name.empty() || name.size() > 64 || !small(name[0])) return false;
  for (const char c : name)
    if (!small(c) && c != '.' && c != '_' && c != '-') return false;
  return true;
}

std::string instance_name(const std::string &name) {
  if (name.find('/') != std::string::npos || name.find("..") != std::string::npos)
    throw Failure("E_UNSAFE_RUNTIME",
                  "the instance name '" + name +
                      "' would leave the runtime folder: use letters, digits, dots, dashes");
  return is_instance(name) ? name : "job-" + sha256_hex(name).substr(0, 24);
}

}  // namespace

std::string runtime_folder(const std::string &endpoint) {
  std::string folder = os::is_absolute(endpoint) ? endpoint : std::string();
  if (endpoint.empty()) {
    folder = os::environment("MATTEBRIDGE_RUNTIME_DIR");
    if (!folder.empty() && !os::is_absolute(folder))
      throw Failure("E_UNSAFE_RUNTIME",
                    "MATTEBRIDGE_RUNTIME_DIR must be an absolute path; it is '" + folder + "'");
  }
  if (folder.empty()) {
    std::string name = endpoint.empty() ? os::environment("MATTEBRIDGE_INSTANCE") : endpoint;
    if (name.empty()) name = kDefaultInstance;
    folder = os::is_absolute(name) ? name : os::runtime_root() + "/" + instance_name(name);
  }
  folder = os::tidy(folder);
  if (folder.size() + kDoorBytes > os::kLongestPath)
    throw Failure("E_UNSAFE_RUNTIME",
                  "the folder of the daemon's sockets has too long a path (" +
                      std::to_string(folder.size() + kDoorBytes) + " bytes, " +
                      std::to_string(os::kLongestPath) +
                      " fit): set MATTEBRIDGE_RUNTIME_DIR to a shorter one");
  return folder;
}

}  // namespace mb
