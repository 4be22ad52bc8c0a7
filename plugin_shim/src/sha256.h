// SHA-256 (FIPS 180-4), for the folder name of an instance whose own name cannot be used.
#pragma once

#include <string>

namespace mb {

std::string sha256_hex(const std::string &text);

}  // namespace mb
