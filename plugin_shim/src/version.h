#pragma once

namespace mb {

// The minor number rises with every change of the parameters, so that hosts read them anew.
inline constexpr unsigned kMajor = 1, kMinor = 0;
inline constexpr const char *kVersion = "1.0";

}  // namespace mb
