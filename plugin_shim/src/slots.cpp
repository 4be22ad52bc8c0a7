#include "slots.h"

#include <algorithm>
#include <cstring>

namespace mb {
namespace {

constexpr int64_t kAlignment = 64, kHeaderBytes = 64, kRoundBytes = 2 << 20;
// Pixels of the size classes: another format of about the same size needs no new arena.
constexpr int64_t kSizeClasses[] = {256 * 256,   960 * 540,   1920 * 1080, 2048 * 1556,
                                    3840 * 2160, 4096 * 3112, 6144 * 4096, 8192 * 6144};

int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

}  // namespace

const char *wire_name(Sample sample) {
  constexpr const char *names[] = {"u1", "u2", "f2", "f4"};
  return names[static_cast<int>(sample)];
}

int sample_bytes(Sample sample) {
  constexpr int sizes[] = {1, 2, 2, 4};
  return sizes[static_cast<int>(sample)];
}

void place(int64_t width, int64_t height, std::vector<Plane> &planes) {
  int64_t offset = kHeaderBytes;
  for (Plane &plane : planes) {
    plane.offset = offset;
    plane.width = width;
    plane.height = height;
    plane.stride = round_up(width * plane.channels * sample_bytes(plane.sample), kAlignment);
    offset = round_up(offset + plane.stride * height, kAlignment);
  }
}

int64_t arena_bytes(int64_t width, int64_t height, const std::vector<Plane> &planes) {
  std::vector<Plane> placed = planes;
  place(width, height, placed);
  int64_t exact = kHeaderBytes, per_pixel = 0;
  if (!placed.empty()) exact = placed.back().offset + placed.back().stride * height;
  for (const Plane &plane : planes) per_pixel += plane.channels * sample_bytes(plane.sample);
  int64_t pixels = width * height;
  for (const int64_t size : kSizeClasses)
    if (size >= pixels) {
      pixels = size;
      break;
    }
  const auto count = static_cast<int64_t>(planes.size());
  const int64_t in_class = kHeaderBytes + pixels * per_pixel + kAlignment * count;
  return round_up(std::max(exact, in_class), kRoundBytes);
}

// Memory order between the processes is given by the message that names the generation; these two
// stores only let a reader detect that it read too early or too late.
void write_begin(uint8_t *arena, uint64_t generation) {
  const uint32_t version = 1;
  std::memcpy(arena, "MTB1", 4);
  std::memcpy(arena + 4, &version, 4);
  __atomic_store_n(reinterpret_cast<uint64_t *>(arena + 8), generation, __ATOMIC_SEQ_CST);
}

void write_end(uint8_t *arena, uint64_t generation) {
  __atomic_store_n(reinterpret_cast<uint64_t *>(arena + 16), generation, __ATOMIC_RELEASE);
}

}  // namespace mb
