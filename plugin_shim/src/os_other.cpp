// Systems without a transport so far: the plugin loads and declares its knobs, and each frame fails
// with an error message.
#include "os.h"

#include <stdlib.h>

#include <utility>

namespace mb::os {
namespace {

[[noreturn]] void refuse() {
  throw Failure("E_SYSTEM",
                "there is no transport for this operating system yet: run the daemon "
                "and its hosts on Linux or macOS");
}

}  // namespace

Fd &Fd::operator=(Fd &&other) noexcept {
  std::swap(number_, other.number_);
  return *this;
}
Fd::~Fd() = default;
int Fd::release() { return std::exchange(number_, -1); }

Map::Map(const Fd &, int64_t) { refuse(); }
Map &Map::operator=(Map &&other) noexcept {
  swap(other);
  return *this;
}
Map::~Map() = default;
void Map::swap(Map &other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
}

int process_id() { return 0; }
std::string random_bytes(size_t) { refuse(); }
std::string environment(const char *name) {
  const char *value = getenv(name);
  return value ? value : "";
}
std::string runtime_folder(const std::string &) { refuse(); }
void check_folder(const std::string &) { refuse(); }
bool lies_in(const std::string &, const std::string &) { refuse(); }
Fd connect_to(const std::string &, const std::string &, bool, const Watch &) { refuse(); }
bool receive_record(const Fd &, size_t, Record &) { refuse(); }
bool send_record(const Fd &, const std::string &) { refuse(); }
size_t read_some(const Fd &, char *, size_t) { refuse(); }
size_t write_some(const Fd &, const char *, size_t) { refuse(); }
bool hung_up(const Fd &) { return true; }
void wait_for(const Fd *, const Fd *, bool, int) {}
void close_after_fork(int) {}
void forget_after_fork(int) {}
void on_fork(void (*)()) {}

}  // namespace mb::os
