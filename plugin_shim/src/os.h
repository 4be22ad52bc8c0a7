// What differs between operating systems: os_windows.cpp; os_linux.cpp or os_posix.cpp (macOS), both
// with os_unix.cpp. docs/protocol.md describes each of them. Text is UTF-8 on all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "failure.h"

namespace mb::os {

// An owned descriptor, on Windows a handle; the destructor closes it.
class Fd {
 public:
  explicit Fd(std::intptr_t number = -1) : number_(number) {}
  Fd(Fd &&other) noexcept : number_(other.release()) {}
  Fd &operator=(Fd &&other) noexcept;
  Fd(const Fd &) = delete;
  ~Fd();
  std::intptr_t number() const { return number_; }
  std::intptr_t release();

 private:
  std::intptr_t number_;
};

// An open connection to the daemon, which never blocks; the destructor closes it.
class Connection {
 public:
  struct State;  // of each system
  explicit Connection(std::unique_ptr<State> state);
  Connection(Connection &&other) noexcept;
  Connection(const Connection &) = delete;
  ~Connection();
  State &state() const { return *state_; }

 private:
  std::unique_ptr<State> state_;
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

// -- settings and programs ------------------------------------------------------------------------

// The user's folder for settings of mattebridge; "" where the system names none.
std::string settings_folder();
// A file of the user's settings, "" where it cannot be read or is longer than `limit`. Throws Failure
// where another user may have written it.
std::string read_own_file(const std::string &path, size_t limit);
// Whether a path names a program.
bool can_run(const std::string &path);
// The path of a command on PATH; "" where there is none.
std::string find_command(const std::string &name);

// -- the runtime folder ---------------------------------------------------------------------------

extern const size_t kLongestPath;  // bytes of the door's path
// The folder that holds the runtime folders of all instances, unless the user names another one.
std::string runtime_root();
bool is_absolute(const std::string &path);
// The path as the daemon writes it: without doubled separators, or one at its end.
std::string tidy(const std::string &path);
// Throws Failure unless the folder is owned by the user and closed to others.
void check_folder(const std::string &folder);
// The path of the control channel in this folder; "" if its address in the welcome is another one.
std::string control_path(const std::string &address, const std::string &folder);

// -- connections ----------------------------------------------------------------------------------

// Throws Failure if the peer's user is not the user of this process.
Connection connect_to(const std::string &path, const std::string &folder, bool records,
                      const Watch &watch);
// One record with its memory. False: nothing has arrived yet. Empty record: the peer closed.
bool receive_record(const Connection &connection, size_t limit, Record &record);
// False: it is not sent yet; call again with the same data.
bool send_record(const Connection &connection, const std::string &data);
// Whether the peer closed the connection (or sent something unexpected).
bool hung_up(const Connection &door);
// Waits until one of them can be read (or `a` written), at most `timeout_ms`.
void wait_for(const Connection *a, const Connection *b, bool a_write, int timeout_ms);

// From now on a forked child closes its copy of this door at once, as it would keep the lease open.
void close_after_fork(const Connection &door);
void forget_after_fork(const Connection &door);
// Called in a forked child after its doors were closed.
void on_fork(void (*child)());

}  // namespace mb::os
