// Tests the C++ implementation of the wire: reads every golden message and packs it to the same
// bytes, and has commands that pytest calls, so that both languages are tested against one set of
// files.
//
//   wire_test FOLDER                       round-trips FOLDER/*.bin
//   wire_test unpack < message             status 0: packed to the same bytes; 3: refused
//   wire_test layout W H role:c:dtype ...  the arena's size, then `off stride` of each plane
//   wire_test header GENERATION            the header of a whole arena, in hexadecimal
//   wire_test halves                       round-trips all 65,536 halves
//   wire_test sha256 TEXT
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include "failure.h"
#include "mpack.h"
#include "pixels.h"
#include "sha256.h"
#include "slots.h"

namespace {

std::string slurp(std::istream &file) { return {std::istreambuf_iterator<char>(file), {}}; }

int unpack(const std::string &data) {
  try {
    return mb::mpack::pack(mb::mpack::unpack(data)) == data ? 0 : 1;
  } catch (const mb::Failure &failure) {
    std::fprintf(stderr, "%s: %s\n", failure.code.c_str(), failure.what());
    return 3;
  }
}

int round_trip(const char *folder) {
  int bad = 0, count = 0;
  for (const auto &entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".bin") continue;
    std::ifstream file(entry.path(), std::ios::binary);
    ++count;
    if (unpack(slurp(file)) == 0) continue;
    ++bad;
    std::fprintf(stderr, "%s does not round-trip\n", entry.path().c_str());
  }
  std::printf("%d golden messages\n", count);
  return bad || !count;
}

int layout(int count, char **arguments) {
  std::vector<mb::Plane> planes;
  for (int index = 2; index < count; ++index) {
    const std::string text = arguments[index];
    const size_t first = text.find(':'), second = text.rfind(':');
    mb::Plane plane;
    plane.role = text.substr(0, first);
    plane.channels = std::atoi(text.c_str() + first + 1);
    for (const mb::Sample sample :
         {mb::Sample::Byte, mb::Sample::Short, mb::Sample::Half, mb::Sample::Float})
      if (text.substr(second + 1) == mb::wire_name(sample)) plane.sample = sample;
    planes.push_back(plane);
  }
  const long width = std::atol(arguments[0]), height = std::atol(arguments[1]);
  std::printf("%lld\n", static_cast<long long>(mb::arena_bytes(width, height, planes)));
  mb::place(width, height, planes);
  for (const mb::Plane &plane : planes)
    std::printf("%lld %lld\n", static_cast<long long>(plane.offset),
                static_cast<long long>(plane.stride));
  return 0;
}

int header(const char *generation) {
  alignas(8) uint8_t bytes[64] = {};
  mb::write_begin(bytes, std::strtoull(generation, nullptr, 10));
  mb::write_end(bytes, std::strtoull(generation, nullptr, 10));
  for (const uint8_t byte : bytes) std::printf("%02x", byte);
  std::printf("\n");
  return 0;
}

int halves() {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const float value = mb::from_half(static_cast<uint16_t>(bits));
    if (!std::isfinite(value)) continue;
    if (mb::to_half(value) != bits) return 1;
    // Half-way between two neighbours goes to the even one.
    if ((bits & 0x7fff) >= 0x7bff) continue;
    const float next = mb::from_half(static_cast<uint16_t>(bits + 1));
    if (mb::to_half(value + (next - value) / 2) != (bits & 1 ? bits + 1 : bits)) return 1;
  }
  const bool clamped = mb::to_half(1e9f) == 0x7bff && mb::to_half(-INFINITY) == 0xfbff;
  return clamped && mb::to_half(NAN) == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char **arguments) {
  const std::string what = count > 1 ? arguments[1] : "";
  if (what == "unpack") return unpack(slurp(std::cin));
  if (what == "layout" && count > 4) return layout(count - 2, arguments + 2);
  if (what == "header" && count > 2) return header(arguments[2]);
  if (what == "halves") return halves();
  if (what == "sha256" && count > 2)
    return std::printf("%s\n", mb::sha256_hex(arguments[2]).c_str()) < 0;
  return count == 2 ? round_trip(arguments[1]) : 2;
}
