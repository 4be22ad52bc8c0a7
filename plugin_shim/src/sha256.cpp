#include "sha256.h"

#include <cmath>
#include <cstdint>

namespace mb {
namespace {

uint32_t rotate(uint32_t value, int bits) { return value >> bits | value << (32 - bits); }

// The first 32 bits of the fractional parts of the roots of the first primes, as the standard
// defines them. Computed, because a table of 72 numbers is easy to get wrong.
struct Constants {
  uint32_t start[8], round[64];
  Constants() {
    for (int prime = 2, count = 0; count < 64; ++prime) {
      bool divided = false;
      for (int divisor = 2; divisor * divisor <= prime; ++divisor) divided |= prime % divisor == 0;
      if (divided) continue;
      if (count < 8) start[count] = root(prime, 2);
      round[count++] = root(prime, 3);
    }
  }
  // floor(2^32 * prime^(1/power)) modulo 2^32, in integers: exact on every compiler.
  static uint32_t root(uint64_t prime, int power) {
    uint64_t low = 0, high = uint64_t{1} << 36;
    while (high - low > 1) {
      const uint64_t middle = low + (high - low) / 2;
      (at_most(middle, power, prime) ? low : high) = middle;
    }
    return static_cast<uint32_t>(low);
  }
  // Whether middle^power <= prime * 2^(32 * power), in 128-bit and 96+64-bit steps.
  static bool at_most(uint64_t middle, int power, uint64_t prime) {
    __extension__ using Wide = unsigned __int128;
    const Wide square = static_cast<Wide>(middle) * middle;
    if (power == 2) return square <= static_cast<Wide>(prime) << 64;
    // The cube has up to 108 bits, the right side 105: both fit.
    return square * middle <= static_cast<Wide>(prime) << 96;
  }
};

void compress(const Constants &constants, const unsigned char *block, uint32_t *state) {
  uint32_t words[64];
  for (int i = 0; i < 16; ++i)
    words[i] = uint32_t{block[4 * i]} << 24 | uint32_t{block[4 * i + 1]} << 16 |
               uint32_t{block[4 * i + 2]} << 8 | block[4 * i + 3];
  for (int i = 16; i < 64; ++i) {
    const uint32_t a = words[i - 15], b = words[i - 2];
    words[i] = words[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + words[i - 7] +
               (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
  }
  uint32_t v[8];
  for (int i = 0; i < 8; ++i) v[i] = state[i];
  for (int i = 0; i < 64; ++i) {
    const uint32_t sum1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
    const uint32_t choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
    const uint32_t first = v[7] + sum1 + choice + constants.round[i] + words[i];
    const uint32_t sum0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
    const uint32_t second = sum0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
    for (int j = 7; j > 0; --j) v[j] = v[j - 1];
    v[4] += first;
    v[0] = first + second;
  }
  for (int i = 0; i < 8; ++i) state[i] += v[i];
}

}  // namespace

std::string sha256_hex(const std::string &text) {
  const Constants constants;
  uint32_t state[8];
  for (int i = 0; i < 8; ++i) state[i] = constants.start[i];
  std::string padded = text + '\x80';
  while (padded.size() % 64 != 56) padded += '\0';
  for (int shift = 56; shift >= 0; shift -= 8)
    padded += static_cast<char>(uint64_t{text.size()} * 8 >> shift & 0xff);
  for (size_t at = 0; at < padded.size(); at += 64)
    compress(constants, reinterpret_cast<const unsigned char *>(padded.data()) + at, state);
  std::string hex;
  for (const uint32_t word : state)
    for (int shift = 28; shift >= 0; shift -= 4) hex += "0123456789abcdef"[word >> shift & 15];
  return hex;
}

}  // namespace mb
