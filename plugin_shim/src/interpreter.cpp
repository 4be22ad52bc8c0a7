#include "interpreter.h"

#include <cstdint>

#include "failure.h"
#include "os.h"

namespace mb {
namespace {

constexpr size_t kLongestNote = 1 << 16;
constexpr int kDeepest = 32;  // lists and maps in each other

void append_utf8(uint32_t code, std::string &text) {
  const auto low = [code](int shift) { return static_cast<char>(0x80 | ((code >> shift) & 0x3F)); };
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += {static_cast<char>(0xC0 | code >> 6), low(0)};
  } else if (code < 0x10000) {
    text += {static_cast<char>(0xE0 | code >> 12), low(6), low(0)};
  } else {
    text += {static_cast<char>(0xF0 | code >> 18), low(12), low(6), low(0)};
  }
}

// As much of JSON (RFC 8259) as finds one text in an object: values of other kinds are passed over,
// numbers and words unchecked.
class Json {
 public:
  explicit Json(const std::string &data) : data_(data) {}

  // The last text at a key of the outermost object; false where this is no JSON object.
  bool find(const std::string &key, std::string &found) {
    return next('{') && members(0, &key, &found) && (space(), at_ == data_.size());
  }

 private:
  void space() {
    while (at_ < data_.size() && std::string(" \t\r\n").find(data_[at_]) != std::string::npos)
      ++at_;
  }

  bool next(char wanted) {
    space();
    if (at_ >= data_.size() || data_[at_] != wanted) return false;
    ++at_;
    return true;
  }

  bool members(int depth, const std::string *key, std::string *found) {
    if (next('}')) return true;
    do {
      std::string name, text;
      bool is_text = false;
      if (!next('"') || !string(name) || !next(':') || !value(depth + 1, is_text, text))
        return false;
      if (key && name == *key) *found = is_text ? text : "";
    } while (next(','));
    return next('}');
  }

  bool value(int depth, bool &is_text, std::string &text) {
    is_text = next('"');
    if (is_text) return string(text);
    if (depth > kDeepest) return false;
    if (next('{')) return members(depth, nullptr, nullptr);
    if (next('[')) return items(depth);
    const size_t from = at_;
    while (at_ < data_.size() && std::string(",]} \t\r\n").find(data_[at_]) == std::string::npos)
      ++at_;
    return at_ > from;
  }

  bool items(int depth) {
    if (next(']')) return true;
    do {
      bool is_text = false;
      std::string text;
      if (!value(depth + 1, is_text, text)) return false;
    } while (next(','));
    return next(']');
  }

  // Behind the opening quote.
  bool string(std::string &text) {
    while (at_ < data_.size()) {
      const char c = data_[at_++];
      if (c == '"') return true;
      if (c != '\\') text += c;
      else if (!escape(text)) return false;
    }
    return false;
  }

  bool escape(std::string &text) {
    const std::string names = "\"\\/bfnrt", values = "\"\\/\b\f\n\r\t";
    if (at_ >= data_.size()) return false;
    const char name = data_[at_++];
    if (name != 'u') {
      const size_t index = names.find(name);
      if (index != std::string::npos) text += values[index];
      return index != std::string::npos;
    }
    uint32_t code = 0, second = 0;
    if (!four_digits(code)) return false;
    if (code >= 0xD800 && code < 0xDC00 && data_.compare(at_, 2, "\\u") == 0) {
      at_ += 2;
      if (!four_digits(second) || second < 0xDC00 || second > 0xDFFF) return false;
      code = 0x10000 + ((code - 0xD800) << 10) + (second - 0xDC00);
    }
    append_utf8(code, text);
    return true;
  }

  bool four_digits(uint32_t &code) {
    const std::string digits = "0123456789abcdef";
    for (int count = 0; count < 4; ++count, ++at_) {
      if (at_ >= data_.size()) return false;
      const char c = data_[at_];
      const size_t digit = digits.find(c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c);
      if (digit == std::string::npos) return false;
      code = code << 4 | static_cast<uint32_t>(digit);
    }
    return true;
  }

  const std::string &data_;
  size_t at_ = 0;
};

}  // namespace

std::string noted_python(const std::string &json) {
  std::string found;
  return Json(json).find("python", found) ? found : "";
}

std::vector<std::string> daemon_command() {
  const std::string chosen = os::environment("MATTEBRIDGE_DAEMON_PYTHON");
  if (!chosen.empty()) {
    if (!os::can_run(chosen))
      throw Failure("E_CONNECTION", "cannot start the daemon with " + chosen +
                                        ", which is no program: check MATTEBRIDGE_DAEMON_PYTHON");
    return {chosen, "-m", "mattebridge"};
  }
  const std::string note = os::settings_folder() + "/daemon.json";
  const std::string noted = noted_python(os::read_own_file(note, kLongestNote));
  if (!noted.empty() && os::can_run(noted)) return {noted, "-m", "mattebridge"};
  const std::string command = os::find_command("mattebridge");
  if (!command.empty()) return {command};
  const std::string gone = noted.empty() ? "" : " (" + noted + ", named in " + note + ", is gone)";
  throw Failure("E_CONNECTION", "no daemon can be started" + gone +
                                    ": run `mattebridge serve` once, or set "
                                    "MATTEBRIDGE_DAEMON_PYTHON to the Python of mattebridge");
}

}  // namespace mb
