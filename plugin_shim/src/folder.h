// The runtime folder of an instance: the C++ twin of bridge/mattebridge/wire/folder.py.
#pragma once

#include <string>

namespace mb {

// `endpoint` is a name, an absolute path, or "". Throws Failure where the path is no good.
std::string runtime_folder(const std::string &endpoint);

}  // namespace mb
