#include "launch.h"

namespace mb::os {

std::string last_line(const std::string &text) {
  const size_t end = text.find_last_not_of(" \t\r\n");
  if (end == std::string::npos) return "";
  const size_t before = text.find_last_of("\r\n", end);
  const size_t start = before == std::string::npos ? 0 : before + 1;
  return text.substr(start, end + 1 - start);
}

}  // namespace mb::os
