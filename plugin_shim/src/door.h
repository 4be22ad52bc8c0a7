// The door: the open connection is the lease of one session. The daemon sends one arena over it.
#pragma once

#include <string>

#include "mpack.h"
#include "os.h"

namespace mb {

struct Arena {
  int64_t number = 0;
  os::Map memory;
};

class Door {
 public:
  // Connects to the daemon of this folder; Failure E_NO_DAEMON where none listens.
  Door(const std::string &folder, const Watch &watch);
  Door(const Door &) = delete;
  ~Door();

  // Sends the hello and asks for one arena of `bytes`, or for none where `arena` is null. Returns
  // the welcome.
  mpack::Value hello(const std::string &host, int64_t bytes, Arena *arena, const Watch &watch);
  // Replaces the arena by a larger one.
  void resize(int64_t bytes, Arena &arena, const Watch &watch);

  bool lost() const { return os::hung_up(connection_); }
  const os::Connection &connection() const { return connection_; }

 private:
  mpack::Value ask(const mpack::Value &message, int64_t bytes, Arena *arena, const Watch &watch);

  std::string folder_;
  os::Connection connection_;
};

}  // namespace mb
