#include "pixels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace mb {
namespace {

// Pictures larger than this do not stay in the cache. Their rows are written with non-temporal
// stores: a plain copy would first read every cache line that it overwrites, half as much traffic
// again. (memcpy of a whole picture does so by itself, but here rows are flipped, one by one.)
constexpr int64_t kStreamBytes = 8 << 20;

void copy_row(uint8_t *to, const uint8_t *from, size_t bytes, bool stream) {
#if defined(__SSE2__)
  if (stream) {
    const size_t head = std::min(bytes, -reinterpret_cast<uintptr_t>(to) % 16);
    std::memcpy(to, from, head);
    const size_t blocks = (bytes - head) / 64 * 64;
    for (size_t at = head; at < head + blocks; at += 64)
      for (size_t part = at; part < at + 64; part += 16)
        _mm_stream_si128(reinterpret_cast<__m128i *>(to + part),
                         _mm_loadu_si128(reinterpret_cast<const __m128i *>(from + part)));
    std::memcpy(to + head + blocks, from + head + blocks, bytes - head - blocks);
    return;
  }
#endif
  static_cast<void>(stream);
  std::memcpy(to, from, bytes);
}

// Makes the non-temporal stores visible before any later store.
void finish_rows(bool stream) {
#if defined(__SSE2__)
  if (stream) _mm_sfence();
#endif
  static_cast<void>(stream);
}

// How many bytes are copied between two checks: a few milliseconds.
constexpr int64_t kCheckBytes = 4 << 20;

class Steps {
 public:
  explicit Steps(const AbortCheck &check) : check_(check) {}
  void step(int64_t bytes) {
    done_ += bytes;
    if (done_ < kCheckBytes) return;
    done_ = 0;
    check_();
  }

 private:
  const AbortCheck &check_;
  int64_t done_ = 0;
};

template <typename T>
T load(const uint8_t *at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

float load_sample(const uint8_t *at, Sample sample) {
  switch (sample) {
    case Sample::Byte: return static_cast<float>(*at) / 255.0f;
    case Sample::Short: return static_cast<float>(load<uint16_t>(at)) / 65535.0f;
    case Sample::Half: return from_half(load<uint16_t>(at));
    case Sample::Float: return load<float>(at);
  }
  return 0;
}

// To an integer of 0..maximum, rounded; NaN becomes 0.
unsigned whole(float value, float maximum) {
  const float scaled = std::isnan(value) ? 0.0f : std::clamp(value, 0.0f, 1.0f) * maximum;
  return static_cast<unsigned>(scaled + 0.5f);
}

void store_sample(uint8_t *at, Sample sample, float value) {
  if (sample == Sample::Byte) {
    *at = static_cast<uint8_t>(whole(value, 255.0f));
  } else if (sample == Sample::Float) {
    std::memcpy(at, &value, 4);
  } else {
    const auto bits =
        sample == Sample::Short ? static_cast<uint16_t>(whole(value, 65535.0f)) : to_half(value);
    std::memcpy(at, &bits, 2);
  }
}

// Copies samples of one type unchanged.
template <typename T>
void pick_row(const uint8_t *from, int components, Pick pick, T one, uint8_t *to, int count) {
  const int first = pick == Pick::Alpha ? components - 1 : 0;
  for (int x = 0; x < count; ++x, from += components * sizeof(T)) {
    if (pick == Pick::Colour || pick == Pick::Covered) {
      std::memcpy(to, from, 3 * sizeof(T));
      to += 3 * sizeof(T);
      if (pick == Pick::Colour) continue;
      std::memcpy(to, &one, sizeof(T));
    } else {
      std::memcpy(to, from + first * sizeof(T), sizeof(T));
    }
    to += sizeof(T);
  }
}

void luminance_row(const Image &image, const uint8_t *from, uint8_t *to, int count) {
  const int step = sample_bytes(image.sample);
  for (int x = 0; x < count; ++x, from += image.pixel_bytes(), to += 4) {
    const auto value = [&](int c) { return load_sample(from + c * step, image.sample); };
    const float luma = 0.2126f * value(0) + 0.7152f * value(1) + 0.0722f * value(2);
    std::memcpy(to, &luma, 4);
  }
}

void take_row(const Image &image, const uint8_t *from, Pick pick, uint8_t *to, int count,
              bool stream) {
  if (pick == Pick::Whole) {
    copy_row(to, from, static_cast<size_t>(count) * static_cast<size_t>(image.pixel_bytes()),
             stream);
  } else if (pick == Pick::Luminance) {
    luminance_row(image, from, to, count);
  } else if (image.sample == Sample::Byte) {
    pick_row<uint8_t>(from, image.components, pick, 255, to, count);
  } else if (image.sample == Sample::Float) {
    pick_row<float>(from, image.components, pick, 1.0f, to, count);
  } else {
    const uint16_t one = image.sample == Sample::Half ? 0x3c00 : 0xffff;
    pick_row<uint16_t>(from, image.components, pick, one, to, count);
  }
}

// One row of results as floats of `components`.
void assemble(Output mode, const float *first, const float *second, int components, float *to,
              int count, bool stream) {
  if (mode == Output::Premultiplied && components == 4) {
    copy_row(reinterpret_cast<uint8_t *>(to), reinterpret_cast<const uint8_t *>(first),
             sizeof(float) * 4 * static_cast<size_t>(count), stream);
    return;
  }
  for (int x = 0; x < count; ++x, to += components) {
    const float alpha = mode == Output::Premultiplied ? first[4 * x + 3]
                        : mode == Output::Straight    ? second[x]
                                                      : first[x];
    const float *colour = mode == Output::Premultiplied ? first + 4 * x : first + 3 * x;
    if (components == 1) {
      to[0] = alpha;
      continue;
    }
    for (int c = 0; c < 3; ++c) to[c] = mode == Output::Matte ? alpha : colour[c];
    if (components == 4) to[3] = alpha;
  }
}

void give_row(const Result &result, int64_t row, int64_t from, int count, const Image &output,
              uint8_t *to, std::vector<float> &scratch, bool stream) {
  const auto at = [&](const Plane *plane) {
    if (!plane) return static_cast<const float *>(nullptr);
    const uint8_t *start = result.arena + plane->offset + row * plane->stride;
    return reinterpret_cast<const float *>(start) + from * plane->channels;
  };
  const auto samples = static_cast<size_t>(count) * static_cast<size_t>(output.components);
  // A host's rows may start at any address; floats are written directly only if it is aligned.
  const bool direct =
      output.sample == Sample::Float && reinterpret_cast<uintptr_t>(to) % alignof(float) == 0;
  if (!direct) scratch.resize(samples);
  float *floats = direct ? reinterpret_cast<float *>(to) : scratch.data();
  assemble(result.mode, at(result.first), at(result.second), output.components, floats, count,
           stream && direct);
  if (direct) return;
  for (size_t index = 0; index < samples; ++index, to += sample_bytes(output.sample))
    store_sample(to, output.sample, floats[index]);
}

void zero(const Image &output, int x1, int x2, int y) {
  if (x2 > x1)
    std::memset(output.pixel(x1, y), 0, static_cast<size_t>(x2 - x1) * output.pixel_bytes());
}

}  // namespace

bool empty(const OfxRectI &r) { return r.x2 <= r.x1 || r.y2 <= r.y1; }

bool contains(const OfxRectI &outer, const OfxRectI &inner) {
  return outer.x1 <= inner.x1 && outer.y1 <= inner.y1 && outer.x2 >= inner.x2 &&
         outer.y2 >= inner.y2;
}

OfxRectI intersection(const OfxRectI &a, const OfxRectI &b) {
  OfxRectI both{std::max(a.x1, b.x1), std::max(a.y1, b.y1), std::min(a.x2, b.x2),
                std::min(a.y2, b.y2)};
  return empty(both) ? OfxRectI{0, 0, 0, 0} : both;
}

std::string text_of(const OfxRectI &r) {
  return "(" + std::to_string(r.x1) + ", " + std::to_string(r.y1) + ")-(" + std::to_string(r.x2) +
         ", " + std::to_string(r.y2) + ")";
}

Plane plane_for(const char *role, const Image &image, Pick pick) {
  Plane plane;
  plane.role = role;
  plane.sample = pick == Pick::Luminance ? Sample::Float : image.sample;
  plane.channels = pick == Pick::Whole     ? image.components
                   : pick == Pick::Colour  ? 3
                   : pick == Pick::Covered ? 4
                                           : 1;
  return plane;
}

void copy_in(const Image &image, const OfxRectI &rectangle, Pick pick, const Plane &plane,
             uint8_t *rows, const AbortCheck &check) {
  const OfxRectI covered = intersection(rectangle, image.bounds);
  const size_t pixel = static_cast<size_t>(plane.channels) * sample_bytes(plane.sample);
  const size_t row_bytes = pixel * static_cast<size_t>(plane.width);
  const bool stream = plane.stride * plane.height > kStreamBytes;
  Steps steps(check);
  for (int64_t row = 0; row < plane.height; ++row, rows += plane.stride) {
    const int y = static_cast<int>(rectangle.y2 - 1 - row);
    const bool inside = y >= covered.y1 && y < covered.y2;
    const int count = inside ? covered.x2 - covered.x1 : 0;
    if (count < plane.width) std::memset(rows, 0, row_bytes);
    if (count > 0)
      take_row(image, image.pixel(covered.x1, y), pick,
               rows + pixel * static_cast<size_t>(covered.x1 - rectangle.x1), count, stream);
    steps.step(plane.stride);
  }
  finish_rows(stream);
}

void copy_out(const Result &result, const OfxRectI &window, const Image &output,
              const AbortCheck &check) {
  const OfxRectI inside = intersection(window, output.bounds);
  const OfxRectI filled = intersection(inside, result.rectangle);
  const int64_t row_bytes = (int64_t{filled.x2} - filled.x1) * output.pixel_bytes();
  const bool stream = row_bytes * (int64_t{filled.y2} - filled.y1) > kStreamBytes;
  std::vector<float> scratch;
  Steps steps(check);
  for (int y = inside.y2 - 1; y >= inside.y1; --y) {
    if (y < filled.y1 || y >= filled.y2) {
      zero(output, inside.x1, inside.x2, y);
      continue;
    }
    zero(output, inside.x1, filled.x1, y);
    zero(output, filled.x2, inside.x2, y);
    give_row(result, int64_t{result.rectangle.y2} - 1 - y, int64_t{filled.x1} - result.rectangle.x1,
             filled.x2 - filled.x1, output, output.pixel(filled.x1, y), scratch, stream);
    steps.step(row_bytes);
  }
  finish_rows(stream);
}

void copy_across(const Image &image, const OfxRectI &window, const Image &output) {
  clear(window, output);
  const OfxRectI both = intersection(intersection(window, output.bounds), image.bounds);
  const int step = sample_bytes(image.sample), other = sample_bytes(output.sample);
  for (int y = both.y1; y < both.y2; ++y)
    for (int x = both.x1; x < both.x2; ++x) {
      const uint8_t *from = image.pixel(x, y);
      uint8_t *to = output.pixel(x, y);
      for (int c = 0; c < output.components; ++c) {
        const int channel = output.components == 1 ? 3 : c;
        const float value = image.components == 1 ? load_sample(from, image.sample)
                            : channel < image.components
                                ? load_sample(from + channel * step, image.sample)
                                : 1.0f;
        store_sample(to + c * other, output.sample, value);
      }
    }
}

void clear(const OfxRectI &window, const Image &output) {
  const OfxRectI inside = intersection(window, output.bounds);
  for (int y = inside.y1; y < inside.y2; ++y) zero(output, inside.x1, inside.x2, y);
}

bool all_zero(const Image &image) {
  const size_t row = static_cast<size_t>(image.bounds.x2 - image.bounds.x1) * image.pixel_bytes();
  for (int y = image.bounds.y1; y < image.bounds.y2; ++y) {
    const uint8_t *at = image.pixel(image.bounds.x1, y);
    for (size_t index = 0; index < row; ++index)
      if (at[index]) return false;
  }
  return true;
}

bool alpha_is_empty(const Image &image) {
  if (image.components != 4 || empty(image.bounds)) return false;
  const size_t sample = static_cast<size_t>(sample_bytes(image.sample)), colour = 3 * sample;
  const uint8_t *first = image.pixel(image.bounds.x1, image.bounds.y1);
  bool varies = false;
  for (int y = image.bounds.y1; y < image.bounds.y2; ++y) {
    const uint8_t *at = image.pixel(image.bounds.x1, y);
    for (int x = image.bounds.x1; x < image.bounds.x2; ++x, at += 4 * sample) {
      if (std::memcmp(at + colour, first + colour, sample) != 0) return false;
      varies = varies || std::memcmp(at, first, colour) != 0;
    }
  }
  return varies;
}

// IEEE binary16 in plain arithmetic: a compiler's own half needs its runtime library.
float from_half(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t exponent = bits >> 10 & 0x1f, mantissa = bits & 0x3ffu;
  if (exponent == 0) {
    const float small = static_cast<float>(mantissa) / 16777216.0f;  // 2^-24 each
    return sign ? -small : small;
  }
  const uint32_t wide = exponent == 31 ? 0x7f800000u : (exponent + 112) << 23;
  const uint32_t made = sign | wide | mantissa << 13;
  float value;
  std::memcpy(&value, &made, 4);
  return value;
}

uint16_t to_half(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  if (std::isnan(value)) return 0;
  const float size = std::fabs(value);
  if (size >= 65504.0f) return static_cast<uint16_t>(sign | 0x7bff);
  if (size < 6.103515625e-5f)  // below the smallest normal: whole steps of 2^-24, to even
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::lrintf(size * 16777216.0f)));
  const uint32_t rest = bits & 0x1fffu;
  uint32_t half = (bits & 0x7fffffffu) >> 13;
  if (rest > 0x1000 || (rest == 0x1000 && (half & 1))) ++half;
  half -= 112u << 10;
  return static_cast<uint16_t>(sign | std::min(half, 0x7bffu));
}

}  // namespace mb
