// What differs between operating systems: os_linux.cpp or os_posix.cpp (macOS) with os_unix.cpp; in
// os_other.cpp every function fails with an error message (docs/protocol.md, "Other systems").
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "failure.h"

namespace mb::os {

// An owned descriptor; the destructor closes it.
class Fd {
 public:
  explicit Fd(int number = -1) : number_(number) {}
  Fd(Fd &&other) noexcept : number_(other.release()) {}
  Fd &operator=(Fd &&other) noexcept;
  Fd(const Fd &) = delete;
  ~Fd();
  int number() const { return number_; }
  int release();

 private:
  int number_;
};

// Shared memory of the daemon, mapped into this process.
class Map {
 public:
  Map() = default;
  Map(const Fd &memory, int64_t bytes);  // throws Failure if it can shrink or is too small
  Map(Map &&other) noexcept { swap(other); }
  Map &operator=(Map &&other) noexcept;
  Map(const Map &) = delete;
  ~Map();
  uint8_t *data() const { return data_; }
  int64_t size() const { return bytes_; }

 private:
  void swap(Map &other) noexcept;
  uint8_t *data_ = nullptr;
  int64_t bytes_ = 0;
};

struct Record {
  std::string data;
  std::vector<Fd> memory;
  bool cut = false;
};

int process_id();
std::string random_bytes(size_t count);
std::string environment(const char *name);

// The runtime folder of an instance, by the rule of wire/folder.py. `endpoint` is a name, an
// absolute path, or "".
std::string runtime_folder(const std::string &endpoint);
// Throws Failure unless the folder is owned by the user and closed to others.
void check_folder(const std::string &folder);
// Whether the file at `path` lies directly in this folder.
bool lies_in(const std::string &path, const std::string &folder);

// A non-blocking connection; throws Failure if the peer's user is not the user of this process.
Fd connect_to(const std::string &path, const std::string &folder, bool records, const Watch &watch);
// One record with its descriptors. False: nothing has arrived yet. Empty record: the peer closed.
bool receive_record(const Fd &door, size_t limit, Record &record);
bool send_record(const Fd &door, const std::string &data);
// Bytes read or written, 0 if it would block; throws HungUp when the peer has closed.
size_t read_some(const Fd &stream, char *buffer, size_t size);
size_t write_some(const Fd &stream, const char *data, size_t size);
// Whether the peer closed the connection (or sent something unexpected).
bool hung_up(const Fd &door);
// Waits until one of them can be read (or `a` written), at most `timeout_ms`.
void wait_for(const Fd *a, const Fd *b, bool a_write, int timeout_ms);

// From now on a forked child closes its copy of this door at once, as it would keep the lease open.
void close_after_fork(int door);
void forget_after_fork(int door);
// Called in a forked child after its doors were closed.
void on_fork(void (*child)());

}  // namespace mb::os
