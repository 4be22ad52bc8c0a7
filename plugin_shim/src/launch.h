// Starting the daemon: the only part of the plugin that may start a process (build.py looks at the
// object files). launch_unix.cpp and launch_windows.cpp.
//
// The program is `mattebridge serve --detach`, which ends as soon as the daemon accepts
// connections, or with an error on its last line. It outlives the host, inherits none of the host's
// descriptors, handles or signal masks, and never becomes a zombie of the host.
//
// The rule that must not be broken: called by a button alone, never by a render.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "os.h"

namespace mb::os {

struct Ended {
  int status;
  std::string last_line;  // of what the program printed to stderr
};

class Launch {
 public:
  // Starts the program whose path is the first word. Throws Failure where it cannot be started.
  explicit Launch(const std::vector<std::string> &command);
  // How it ended; nothing while it runs.
  std::optional<Ended> ended() const;

 private:
  Fd output_, process_;
};

// The last line of a text that is not empty.
std::string last_line(const std::string &text);

}  // namespace mb::os
