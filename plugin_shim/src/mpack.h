// The subset of msgpack that the protocol uses (docs/protocol.md, section 4), and its limits.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace mb::mpack {

struct Value;
using Array = std::vector<Value>;
using Map = std::vector<std::pair<std::string, Value>>;

// One value. Negative integers are stored apart, so that the whole range of 64 bits round-trips.
struct Value {
  enum Kind { Nil, Bool, Int, Uint, Float, Text, Binary, List, Dict };
  Kind kind = Nil;
  bool flag = false;
  int64_t integer = 0;   // Int: below zero
  uint64_t natural = 0;  // Uint: zero and above
  double real = 0;
  std::string bytes;  // Text, Binary
  Array items;
  Map pairs;

  Value() = default;
  Value(bool value) : kind(Bool), flag(value) {}
  Value(int value) : Value(static_cast<int64_t>(value)) {}
  Value(int64_t value);
  Value(uint64_t value) : kind(Uint), natural(value) {}
  Value(double value) : kind(Float), real(value) {}
  Value(const char *value) : kind(Text), bytes(value) {}
  Value(const std::string &value) : kind(Text), bytes(value) {}
  Value(Array value) : kind(List), items(std::move(value)) {}
  Value(Map value) : kind(Dict), pairs(std::move(value)) {}
  static Value binary(const std::string &value);

  const Value *find(const char *key) const;  // null if this is not a map or has no such key
  std::string text(const char *key) const;   // "" if missing or not text
  std::string binary_at(const char *key) const;
  bool truth(const char *key) const;
  bool whole(const char *key, int64_t *out) const;  // false if missing or not an integer
  double number(const char *key, double otherwise) const;
  bool operator==(const Value &other) const;
};

inline constexpr size_t kMaxMessage = 65536;
inline constexpr size_t kMaxRecord = 4096;

// The bytes of one map. Throws Failure when they are more than `limit`.
std::string pack(const Value &message, size_t limit = kMaxMessage);

// One map from untrusted bytes; throws Failure on anything else: too many or too deeply nested
// items, extension types, duplicate keys, numbers that are not finite, trailing bytes, invalid
// text.
Value unpack(const std::string &data, size_t limit = kMaxMessage);

// Text that may be sent: invalid UTF-8 is replaced, and it is cut at a character to at most `limit`
// bytes.
std::string clean_text(const std::string &text, size_t limit);

}  // namespace mb::mpack
