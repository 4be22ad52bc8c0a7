// Where the planes of a request lie in an arena: the C++ twin of bridge/mattebridge/wire/slots.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace mb {

enum class Sample { Byte, Short, Half, Float };

// The name of a sample type on the wire, and its size.
const char *wire_name(Sample sample);
int sample_bytes(Sample sample);

struct Plane {
  std::string role;
  int channels = 0;
  Sample sample = Sample::Float;
  int64_t offset = 0, width = 0, height = 0, stride = 0;
};

// Places the planes behind the 64-byte header, one behind the other.
void place(int64_t width, int64_t height, std::vector<Plane> &planes);

// Bytes to ask for, so that every frame of this size class fits with these planes.
int64_t arena_bytes(int64_t width, int64_t height, const std::vector<Plane> &planes);

// The header of an arena: announce a generation before the pixels, confirm it after them.
void write_begin(uint8_t *arena, uint64_t generation);
void write_end(uint8_t *arena, uint64_t generation);

}  // namespace mb
