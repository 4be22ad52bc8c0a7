// The few things that differ between operating systems. os_linux.cpp answers all of them;
// os_other.cpp refuses with a sentence (docs/protocol.md, "Other systems").
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "failure.h"

namespace mb::os {

// A descriptor that is closed when its owner goes.
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
  Map(const Fd &memory, int64_t bytes);  // throws Failure where it could shrink or is too small
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

// Where an instance lives: transport.py's rule. `endpoint` is a name, an absolute path, or "".
std::string runtime_folder(const std::string &endpoint);
// Throws Failure unless the folder is the user's own and nobody else's.
void check_folder(const std::string &folder);
// Whether the file at `path` lies directly in this folder.
bool lies_in(const std::string &path, const std::string &folder);

// A connection that never blocks; the daemon behind the door must be the user's own.
Fd connect_to(const std::string &path, const std::string &folder, bool records, const Watch &watch);
// One record, with room for `expected` descriptors. False: nothing there yet. An empty record: end.
bool receive_record(const Fd &door, size_t limit, Record &record);
bool send_record(const Fd &door, const std::string &data);
// Bytes read or written, 0 when it would block; throws HungUp when the other end is gone.
size_t read_some(const Fd &stream, char *buffer, size_t size);
size_t write_some(const Fd &stream, const char *data, size_t size);
// Whether the other end hung up (or sent what nobody asked for).
bool hung_up(const Fd &door);
// Sleeps until one of them can be read (or `a` written), at most so long.
void wait_for(const Fd *a, const Fd *b, bool a_write, int timeout_ms);

// From now on a forked child closes this door first thing: its copy would keep the lease alive.
void close_after_fork(int door);
void forget_after_fork(int door);
// Called in a forked child after its doors were closed.
void on_fork(void (*child)());

}  // namespace mb::os
