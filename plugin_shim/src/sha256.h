// SHA-256 (FIPS 180-4), for the folder of an instance whose name cannot be a file name.
#pragma once

#include <string>

namespace mb {

std::string sha256_hex(const std::string &text);

}  // namespace mb
