// Linux and macOS. A shell starts the program in the background and ends at once: the program is
// then a child of init, which waits for it when it ends, so that the host has nothing to wait for.
//
//     host --posix_spawn--> sh --> ( program; printf its status ) --> a file without a name
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __APPLE__
#include <crt_externs.h>
#else
#include <dirent.h>
extern char **environ;
#endif

#include "interpreter.h"
#include "launch.h"
#include "os_unix.h"

namespace mb::os {
namespace {

constexpr const char *kShell = "/bin/sh";
// Behind what the program printed: its status.
constexpr const char *kMark = "\nmattebridge ended with ";
constexpr const char *kScript =
    "(\"$@\"; printf '\\nmattebridge ended with %d' $? >&2) >/dev/null </dev/null &";
constexpr off_t kShown = 4096;  // bytes at the end of the output that are looked at

char **all_variables() {
#ifdef __APPLE__
  return *_NSGetEnviron();
#else
  return environ;
#endif
}

// The environment without what the host set for itself.
std::vector<char *> clean_environment() {
  std::vector<char *> kept;
  for (char **each = all_variables(); each && *each; ++each) {
    bool dropped = false;
    for (const char *name : kHostVariables) {
      const size_t size = strlen(name);
      dropped = dropped || (strncmp(*each, name, size) == 0 && (*each)[size] == '=');
    }
    if (!dropped) kept.push_back(*each);
  }
  kept.push_back(nullptr);
  return kept;
}

// A file that is gone when nobody has it open.
Fd nameless_file() {
  std::string name = temporary_folder() + "/mattebridge-XXXXXX";
  Fd file(mkstemp(&name[0]));
  if (file.number() < 0)
    throw Failure("E_CONNECTION", "cannot start the daemon: no file can be made in " +
                                      temporary_folder() + ": " + strerror(errno));
  unlink(name.c_str());
  fcntl(static_cast<int>(file.number()), F_SETFD, FD_CLOEXEC);
  return file;
}

class Actions {
 public:
  Actions() { posix_spawn_file_actions_init(&actions_); }
  Actions(const Actions &) = delete;
  ~Actions() { posix_spawn_file_actions_destroy(&actions_); }

  void move(const Fd &from, int to) {
    posix_spawn_file_actions_adddup2(&actions_, static_cast<int>(from.number()), to);
  }

  // macOS is told to by a flag instead.
  void close_all_others() {
#ifndef __APPLE__
    DIR *folder = opendir("/proc/self/fd");
    if (!folder) return;
    while (const dirent *entry = readdir(folder)) {
      const int number = atoi(entry->d_name);
      if (number > STDERR_FILENO && number != dirfd(folder))
        posix_spawn_file_actions_addclose(&actions_, number);
    }
    closedir(folder);
#endif
  }

  const posix_spawn_file_actions_t *get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

// A process group of its own, so that Ctrl-C in the host's terminal does not reach it; no signal
// blocked or ignored.
class Attributes {
 public:
  Attributes() {
    posix_spawnattr_init(&attributes_);
    int flags = POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
#ifdef __APPLE__
    flags |= POSIX_SPAWN_CLOEXEC_DEFAULT;
#endif
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setpgroup(&attributes_, 0);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &all);
    posix_spawnattr_setflags(&attributes_, static_cast<short>(flags));
  }
  Attributes(const Attributes &) = delete;
  ~Attributes() { posix_spawnattr_destroy(&attributes_); }
  const posix_spawnattr_t *get() const { return &attributes_; }

 private:
  posix_spawnattr_t attributes_;
};

}  // namespace

Launch::Launch(const std::vector<std::string> &command) : output_(nameless_file()) {
  const Fd nothing(open("/dev/null", O_RDWR | O_CLOEXEC));
  std::vector<std::string> words{kShell, "-c", kScript, "mattebridge"};
  words.insert(words.end(), command.begin(), command.end());
  std::vector<char *> pointers;
  for (std::string &word : words) pointers.push_back(&word[0]);
  pointers.push_back(nullptr);
  Actions actions;
  actions.move(nothing, STDIN_FILENO);
  actions.move(nothing, STDOUT_FILENO);
  actions.move(output_, STDERR_FILENO);
  actions.close_all_others();
  const Attributes attributes;
  const std::vector<char *> environment = clean_environment();
  pid_t shell = 0;
  const int error = posix_spawn(&shell, kShell, actions.get(), attributes.get(), pointers.data(),
                                environment.data());
  if (error)
    throw Failure("E_CONNECTION",
                  "cannot start the daemon with " + command[0] + ": " + strerror(error));
  // Ends at once; a host that waits for all its children may have taken it already.
  while (waitpid(shell, nullptr, 0) < 0 && errno == EINTR) continue;
}

std::optional<Ended> Launch::ended() const {
  struct stat found{};
  if (fstat(static_cast<int>(output_.number()), &found) != 0) return std::nullopt;
  const off_t from = found.st_size > kShown ? found.st_size - kShown : 0;
  std::string text(static_cast<size_t>(found.st_size - from), '\0');
  const ssize_t got = pread(static_cast<int>(output_.number()), &text[0], text.size(), from);
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  const size_t mark = text.rfind(kMark);
  if (mark == std::string::npos) return std::nullopt;
  return Ended{atoi(text.c_str() + mark + strlen(kMark)), last_line(text.substr(0, mark))};
}

}  // namespace mb::os
