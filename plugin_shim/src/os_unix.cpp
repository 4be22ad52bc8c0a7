#include "os_unix.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <utility>

#ifdef __APPLE__
#include <dlfcn.h>
#include <mach/vm_inherit.h>
#include <pthread.h>
#else
// What pthread_atfork calls. pthread_atfork itself, bound dynamically to an old glibc, does not
// record which library registered the hook, and would call it after the host has unloaded it.
extern "C" int __register_atfork(void (*prepare)(), void (*parent)(), void (*child)(), void *dso);
extern "C" __attribute__((visibility("hidden"))) void *__dso_handle;
#endif

namespace mb::os {
namespace {

constexpr int kDoors = 64;

std::atomic<int> doors[kDoors];  // number + 1; 0 is free
std::atomic<void (*)()> child_hook{nullptr};

void after_fork_in_child() {
  for (auto &door : doors)
    if (const int number = door.exchange(0)) close(number - 1);
  if (const auto hook = child_hook.load()) hook();
}

void register_child_hook() {
#ifdef __APPLE__
  // macOS calls the hook also after the host has unloaded the library: so it is never unloaded.
  Dl_info self{};
  if (dladdr(reinterpret_cast<void *>(&after_fork_in_child), &self) && self.dli_fname)
    dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
  pthread_atfork(nullptr, nullptr, after_fork_in_child);
#else
  __register_atfork(nullptr, nullptr, after_fork_in_child, &__dso_handle);
#endif
}

void keep_from_children(void *data, size_t bytes) {
#ifdef __APPLE__
  minherit(data, bytes, VM_INHERIT_NONE);
#else
  madvise(data, bytes, MADV_DONTFORK);
#endif
}

void check_peer(const Fd &connection, const std::string &folder) {
  const int64_t user = peer_user(connection);
  if (user != static_cast<int64_t>(geteuid()))
    throw Failure("E_UID", "the daemon in " + folder + " belongs to user " + std::to_string(user) +
                               ", not to you: start one of your own");
}

}  // namespace

bool usable(const std::string &folder) {
  return !folder.empty() && folder[0] == '/' && access(folder.c_str(), W_OK | X_OK) == 0;
}

std::string temporary_folder() {
  for (const char *name : {"TMPDIR", "TEMP", "TMP"})
    if (usable(environment(name))) return environment(name);
  for (const char *folder : {"/tmp", "/var/tmp", "/usr/tmp"})
    if (usable(folder)) return folder;
  return "/tmp";
}

std::string xdg_root() {
  const std::string uid = std::to_string(getuid());
  for (const std::string &folder : {environment("XDG_RUNTIME_DIR"), "/run/user/" + uid})
    if (usable(folder)) return folder + "/mattebridge";
  return temporary_folder() + "/mattebridge-" + uid;
}

Fd &Fd::operator=(Fd &&other) noexcept {
  std::swap(number_, other.number_);
  return *this;
}

Fd::~Fd() {
  if (number_ >= 0) close(static_cast<int>(number_));
}

std::intptr_t Fd::release() { return std::exchange(number_, -1); }

Map::Map(const Fd &memory, int64_t bytes) {
  struct stat found{};
  if (fstat(memory.number(), &found) != 0 || !cannot_shrink(memory) || bytes < 64 ||
      found.st_size < bytes)
    throw Failure("E_GEOMETRY",
                  "the daemon sent memory that is too small or not sealed: "
                  "install the same version of daemon and plugin");
  void *data = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED,
                    memory.number(), 0);
  if (data == MAP_FAILED)
    throw Failure("E_OOM", "the frame's shared memory could not be mapped: close other programs");
  data_ = static_cast<uint8_t *>(data);
  bytes_ = bytes;
  keep_from_children(data, static_cast<size_t>(bytes));
}

Map &Map::operator=(Map &&other) noexcept {
  Map old(std::move(*this));
  swap(other);
  return *this;
}

Map::~Map() {
  if (data_) munmap(data_, static_cast<size_t>(bytes_));
}

void Map::swap(Map &other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
}

int process_id() { return getpid(); }

std::string random_bytes(size_t count) {
  std::string bytes(count, '\0');
  const Fd source(open("/dev/urandom", O_RDONLY | O_CLOEXEC));
  if (read(source.number(), &bytes[0], count) != static_cast<ssize_t>(count))
    throw Failure("E_INTERNAL", "cannot read random numbers from /dev/urandom");
  return bytes;
}

std::string environment(const char *name) {
  const char *value = getenv(name);
  return value ? value : "";
}

// ---------------------------------------------------------------------------------------------
// Settings and programs

namespace {

std::string home_folder() {
  const std::string home = environment("HOME");
  if (!home.empty()) return home;
  std::vector<char> room(16384);
  passwd entry{}, *found = nullptr;
  const int status = getpwuid_r(getuid(), &entry, room.data(), room.size(), &found);
  return status == 0 && found && found->pw_dir ? found->pw_dir : "";
}

void refuse_open(const std::string &path, const struct stat &found) {
  const bool theirs = found.st_uid != geteuid() && found.st_uid != 0;
  if (!theirs && !(found.st_mode & 022)) return;
  throw Failure("E_UNSAFE_RUNTIME",
                "the daemon's Python is named in " + path +
                    ", which others may have written: make it yours alone (chown, chmod go-w), or "
                    "set MATTEBRIDGE_DAEMON_PYTHON");
}

}  // namespace

std::string settings_folder() {
  const std::string named = environment("XDG_CONFIG_HOME");
  if (is_absolute(named)) return named + "/mattebridge";
#ifdef __APPLE__
  return home_folder() + "/Library/Application Support/mattebridge";
#else
  return home_folder() + "/.config/mattebridge";
#endif
}

std::string read_own_file(const std::string &path, size_t limit) {
  const std::string folder = path.substr(0, path.rfind('/'));
  struct stat found{};
  if (stat(folder.c_str(), &found) != 0) return "";
  refuse_open(folder, found);
  const Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  const int number = static_cast<int>(file.number());
  if (number < 0 || fstat(number, &found) != 0) return "";
  refuse_open(path, found);
  std::string text(limit, '\0');
  const ssize_t got = read(number, &text[0], limit);
  return got > 0 && static_cast<size_t>(got) < limit ? text.substr(0, static_cast<size_t>(got)) : "";
}

bool can_run(const std::string &path) {
  struct stat found{};
  return stat(path.c_str(), &found) == 0 && S_ISREG(found.st_mode) &&
         access(path.c_str(), X_OK) == 0;
}

std::string find_command(const std::string &name) {
  const std::string folders = environment("PATH");
  for (size_t at = 0; at < folders.size();) {
    const size_t end = std::min(folders.find(':', at), folders.size());
    const std::string path = folders.substr(at, end - at) + "/" + name;
    if (path[0] == '/' && can_run(path)) return path;
    at = end + 1;
  }
  return "";
}

// ---------------------------------------------------------------------------------------------
// The runtime folder

bool is_absolute(const std::string &path) { return !path.empty() && path[0] == '/'; }

std::string tidy(const std::string &path) {
  std::string clean;
  for (const char c : path)
    if (c != '/' || clean.empty() || clean.back() != '/') clean += c;
  while (clean.size() > 1 && clean.back() == '/') clean.pop_back();
  return clean;
}

void check_folder(const std::string &folder) {
  struct stat found{};
  if (lstat(folder.c_str(), &found) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) throw no_daemon(folder);
    throw Failure("E_UNSAFE_RUNTIME", "cannot check " + folder + ": " + strerror(errno));
  }
  if (!S_ISDIR(found.st_mode))
    throw Failure("E_UNSAFE_RUNTIME",
                  folder + " is not a folder (a link?): remove it and start again");
  if (found.st_uid != geteuid())
    throw Failure("E_UNSAFE_RUNTIME", folder + " belongs to user " + std::to_string(found.st_uid) +
                                          ": set MATTEBRIDGE_RUNTIME_DIR to a folder of your own");
  if (found.st_mode & 077)
    throw Failure("E_UNSAFE_RUNTIME", folder + " is open to other users: run chmod 700 on it");
}

std::string control_path(const std::string &address, const std::string &folder) {
  constexpr size_t kScheme = 6;
  if (address.compare(0, kScheme, "ipc://") != 0) return "";
  const std::string path = address.substr(kScheme);
  const size_t slash = path.rfind('/');
  struct stat theirs{}, ours{};
  const bool inside = path.size() <= kLongestPath && slash != std::string::npos && slash > 0 &&
                      stat(path.substr(0, slash).c_str(), &theirs) == 0 &&
                      stat(folder.c_str(), &ours) == 0 && theirs.st_dev == ours.st_dev &&
                      theirs.st_ino == ours.st_ino;
  return inside ? path : "";
}

Connection::Connection(std::unique_ptr<State> state) : state_(std::move(state)) {}
Connection::Connection(Connection &&other) noexcept = default;
Connection::~Connection() = default;

Connection connect_to(const std::string &path, const std::string &folder, bool records,
                      const Watch &watch) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.c_str(), path.size());
  Fd connection;
  for (int refused = 0;;) {
    connection = new_socket(records);
    if (connection.number() < 0)
      throw Failure("E_CONNECTION", std::string("cannot create a socket: ") + strerror(errno));
    if (connect(connection.number(), reinterpret_cast<sockaddr *>(&address), sizeof address) == 0)
      break;
    if (errno == ENOENT || (errno == ECONNREFUSED && ++refused >= kRefusals))
      throw no_daemon(folder);
    if (errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED)
      throw Failure("E_CONNECTION",
                    "cannot reach the daemon in " + folder + ": " + strerror(errno));
    watch.pause(0.01);  // the daemon's backlog is full
  }
  check_peer(connection, folder);
  return Connection(std::make_unique<Connection::State>(Connection::State{std::move(connection)}));
}

size_t read_some(const Connection &stream, char *buffer, size_t size) {
  const ssize_t got = recv(socket_of(stream), buffer, size, MSG_DONTWAIT);
  if (got > 0) return static_cast<size_t>(got);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  throw HungUp("the daemon closed the control connection");
}

size_t write_some(const Connection &stream, const char *data, size_t size) {
  const ssize_t put = send(socket_of(stream), data, size, kNoSignal | MSG_DONTWAIT);
  if (put >= 0) return static_cast<size_t>(put);
  if (errno == EAGAIN || errno == EINTR) return 0;
  throw HungUp("the daemon closed the control connection");
}

bool hung_up(const Connection &door) {
  char byte;
  const ssize_t got = recv(socket_of(door), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got >= 0 || (errno != EAGAIN && errno != EINTR);
}

void wait_for(const Connection *a, const Connection *b, bool a_write, int timeout_ms) {
  pollfd watched[2] = {
      {a ? socket_of(*a) : -1, static_cast<short>(POLLIN | (a_write ? POLLOUT : 0)), 0},
      {b ? socket_of(*b) : -1, POLLIN, 0}};
  poll(watched, 2, timeout_ms);
}

void close_after_fork(const Connection &door) {
  for (auto &place : doors) {
    int empty = 0;
    if (place.compare_exchange_strong(empty, socket_of(door) + 1)) return;
  }
}

void forget_after_fork(const Connection &door) {
  for (auto &place : doors) {
    int held = socket_of(door) + 1;
    if (place.compare_exchange_strong(held, 0)) return;
  }
}

void on_fork(void (*child)()) {
  static std::atomic<bool> registered{false};
  child_hook.store(child);
  if (!registered.exchange(true)) register_child_hook();
}

}  // namespace mb::os
