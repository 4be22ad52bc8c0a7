#include "mpack.h"

#include <cmath>
#include <cstring>

#include "failure.h"

namespace mb::mpack {
namespace {

constexpr size_t kMaxText = 4096, kMaxItems = 64;
constexpr int kMaxDepth = 8;

void put(std::string &out, uint64_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
    out.push_back(static_cast<char>(value >> shift & 0xff));
}

void tagged(std::string &out, int tag, uint64_t value, int bytes) {
  out.push_back(static_cast<char>(tag));
  put(out, value, bytes);
}

void put_natural(std::string &out, uint64_t value) {
  if (value < 0x80) put(out, value, 1);
  else if (value <= 0xff) tagged(out, 0xcc, value, 1);
  else if (value <= 0xffff) tagged(out, 0xcd, value, 2);
  else if (value <= 0xffffffff) tagged(out, 0xce, value, 4);
  else tagged(out, 0xcf, value, 8);
}

void put_negative(std::string &out, int64_t value) {
  const auto bits = static_cast<uint64_t>(value);
  if (value >= -32) put(out, bits & 0xff, 1);
  else if (value >= INT8_MIN) tagged(out, 0xd0, bits, 1);
  else if (value >= INT16_MIN) tagged(out, 0xd1, bits, 2);
  else if (value >= INT32_MIN) tagged(out, 0xd2, bits, 4);
  else tagged(out, 0xd3, bits, 8);
}

void put_text(std::string &out, const std::string &text) {
  if (text.size() < 32) put(out, 0xa0 | text.size(), 1);
  else if (text.size() <= 0xff) tagged(out, 0xd9, text.size(), 1);
  else tagged(out, 0xda, text.size(), 2);
  out += text;
}

void put_value(std::string &out, const Value &value) {
  switch (value.kind) {
    case Value::Nil: put(out, 0xc0, 1); break;
    case Value::Bool: put(out, value.flag ? 0xc3 : 0xc2, 1); break;
    case Value::Int: put_negative(out, value.integer); break;
    case Value::Uint: put_natural(out, value.natural); break;
    case Value::Float: {
      uint64_t bits;
      std::memcpy(&bits, &value.real, 8);
      tagged(out, 0xcb, bits, 8);
      break;
    }
    case Value::Text: put_text(out, value.bytes); break;
    case Value::Binary:
      tagged(out, 0xc4, value.bytes.size() & 0xff, 1);
      out += value.bytes;
      break;
    case Value::List:
      if (value.items.size() < 16) put(out, 0x90 | value.items.size(), 1);
      else tagged(out, 0xdc, value.items.size(), 2);
      for (const Value &item : value.items) put_value(out, item);
      break;
    case Value::Dict:
      if (value.pairs.size() < 16) put(out, 0x80 | value.pairs.size(), 1);
      else tagged(out, 0xde, value.pairs.size(), 2);
      for (const auto &pair : value.pairs) {
        put_text(out, pair.first);
        put_value(out, pair.second);
      }
      break;
  }
}

[[noreturn]] void refuse(const char *why) {
  throw Failure("E_MESSAGE", std::string("the daemon sent an invalid message: ") + why);
}

// The length of the UTF-8 character at `at`, 0 if there is none.
size_t character(const std::string &text, size_t at) {
  const auto byte = [&](size_t index) {
    return index < text.size() ? static_cast<unsigned char>(text[index]) : 0;
  };
  const unsigned first = byte(at), second = byte(at + 1);
  size_t length = first < 0x80                    ? 1
                  : first >= 0xc2 && first < 0xe0 ? 2
                  : (first & 0xf0) == 0xe0        ? 3
                  : first >= 0xf0 && first < 0xf5 ? 4
                                                  : 0;
  for (size_t index = 1; index < length; ++index)
    if ((byte(at + index) & 0xc0) != 0x80) return 0;
  if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
      (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f))
    return 0;
  return length;
}

class Reader {
 public:
  explicit Reader(const std::string &data) : data_(data) {}

  Value value(int depth) {
    const unsigned tag = byte();
    if (tag < 0x80) return Value(static_cast<uint64_t>(tag));
    if (tag < 0x90) return map(tag & 15, depth);
    if (tag < 0xa0) return array(tag & 15, depth);
    if (tag < 0xc0) return text(tag & 31);
    if (tag >= 0xe0) return Value(static_cast<int64_t>(tag) - 256);
    switch (tag) {
      case 0xc0: return Value();
      case 0xc2: return Value(false);
      case 0xc3: return Value(true);
      case 0xc4: return Value::binary(take(natural(1)));
      case 0xca: return single();
      case 0xcb: return real();
      case 0xcc: return Value(natural(1));
      case 0xcd: return Value(natural(2));
      case 0xce: return Value(natural(4));
      case 0xcf: return Value(natural(8));
      case 0xd0: return Value(static_cast<int64_t>(static_cast<int8_t>(natural(1))));
      case 0xd1: return Value(static_cast<int64_t>(static_cast<int16_t>(natural(2))));
      case 0xd2: return Value(static_cast<int64_t>(static_cast<int32_t>(natural(4))));
      case 0xd3: return Value(static_cast<int64_t>(natural(8)));
      case 0xd9: return text(natural(1));
      case 0xda: return text(natural(2));
      case 0xdc: return array(natural(2), depth);
      case 0xde: return map(natural(2), depth);
      default: refuse("a type that the protocol does not use");
    }
  }

  bool at_end() const { return at_ == data_.size(); }

 private:
  unsigned byte() {
    if (at_ >= data_.size()) refuse("it ends too early");
    return static_cast<unsigned char>(data_[at_++]);
  }

  uint64_t natural(int bytes) {
    uint64_t value = 0;
    while (bytes--) value = value << 8 | byte();
    return value;
  }

  std::string take(uint64_t length) {
    if (length > kMaxText) refuse("a text is too long");
    if (length > data_.size() - at_) refuse("it ends too early");
    at_ += length;
    return data_.substr(at_ - length, length);
  }

  Value text(uint64_t length) {
    Value value(take(length));
    for (size_t at = 0; at < value.bytes.size();) {
      const size_t step = character(value.bytes, at);
      if (!step) refuse("invalid text");
      at += step;
    }
    return value;
  }

  Value real() {
    const uint64_t bits = natural(8);
    double value;
    std::memcpy(&value, &bits, 8);
    if (!std::isfinite(value)) refuse("a number that is not finite");
    return Value(value);
  }

  Value single() {
    const auto bits = static_cast<uint32_t>(natural(4));
    float value;
    std::memcpy(&value, &bits, 4);
    if (!std::isfinite(value)) refuse("a number that is not finite");
    return Value(static_cast<double>(value));
  }

  void enter(uint64_t count, int depth) const {
    if (depth > kMaxDepth) refuse("nested too deep");
    if (count > kMaxItems) refuse("too many items");
  }

  Value array(uint64_t count, int depth) {
    enter(count, depth);
    Array items;
    while (count--) items.push_back(value(depth + 1));
    return Value(std::move(items));
  }

  Value map(uint64_t count, int depth) {
    enter(count, depth);
    Value made{Map()};
    while (count--) {
      Value key = value(depth + 1);
      if (key.kind != Value::Text) refuse("a key that is not text");
      if (made.find(key.bytes.c_str())) refuse("a key that appears twice");
      Value held = value(depth + 1);
      made.pairs.emplace_back(std::move(key.bytes), std::move(held));
    }
    return made;
  }

  const std::string &data_;
  size_t at_ = 0;
};

}  // namespace

Value::Value(int64_t value) : kind(value < 0 ? Int : Uint) {
  if (value < 0) integer = value;
  else natural = static_cast<uint64_t>(value);
}

Value Value::binary(const std::string &value) {
  Value made(value);
  made.kind = Binary;
  return made;
}

const Value *Value::find(const char *key) const {
  if (kind != Dict) return nullptr;
  for (const auto &pair : pairs)
    if (pair.first == key) return &pair.second;
  return nullptr;
}

std::string Value::text(const char *key) const {
  const Value *found = find(key);
  return found && found->kind == Text ? found->bytes : std::string();
}

std::string Value::binary_at(const char *key) const {
  const Value *found = find(key);
  return found && found->kind == Binary ? found->bytes : std::string();
}

bool Value::truth(const char *key) const {
  const Value *found = find(key);
  return found && found->kind == Bool && found->flag;
}

bool Value::whole(const char *key, int64_t *out) const {
  const Value *found = find(key);
  if (!found || (found->kind != Int && found->kind != Uint)) return false;
  if (found->kind == Uint && found->natural > INT64_MAX) return false;
  *out = found->kind == Int ? found->integer : static_cast<int64_t>(found->natural);
  return true;
}

double Value::number(const char *key, double otherwise) const {
  const Value *found = find(key);
  if (!found) return otherwise;
  if (found->kind == Float) return found->real;
  int64_t value = 0;
  return whole(key, &value) ? static_cast<double>(value) : otherwise;
}

bool Value::operator==(const Value &other) const {
  return kind == other.kind && flag == other.flag && integer == other.integer &&
         natural == other.natural && real == other.real && bytes == other.bytes &&
         items == other.items && pairs == other.pairs;
}

std::string pack(const Value &message, size_t limit) {
  std::string data;
  put_value(data, message);
  if (data.size() > limit)
    throw Failure("E_MESSAGE_TOO_LARGE", "the request is too long: shorten names and texts");
  return data;
}

Value unpack(const std::string &data, size_t limit) {
  if (data.size() > limit) refuse("it is too long");
  Reader reader(data);
  Value message = reader.value(1);
  if (message.kind != Value::Dict) refuse("it is not a map");
  if (!reader.at_end()) refuse("there are bytes behind the map");
  return message;
}

std::string clean_text(const std::string &text, size_t limit) {
  std::string clean;
  for (size_t at = 0; at < text.size();) {
    const size_t step = character(text, at);
    const bool printable = step > 1 || (step == 1 && text[at] >= 0x20 && text[at] != 0x7f);
    const std::string piece = printable ? text.substr(at, step) : std::string(step ? " " : "?");
    if (clean.size() + piece.size() > limit) break;
    clean += piece;
    at += step ? step : 1;
  }
  return clean;
}

}  // namespace mb::mpack
