// What the layers of Linux and macOS share (os_unix.cpp), and what each of them defines for it
// (os_linux.cpp, os_posix.cpp).
#pragma once

#include <sys/socket.h>

#include "os.h"

namespace mb::os {

#ifdef MSG_NOSIGNAL
constexpr int kNoSignal = MSG_NOSIGNAL;
#else
constexpr int kNoSignal = 0;  // an option of the socket instead
#endif
constexpr size_t kMaxMemory = 16;  // descriptors in one answer; the protocol has at most 8

struct Connection::State {
  Fd fd;
};

// -- shared ---------------------------------------------------------------------------------------

inline int socket_of(const Connection &connection) {
  return static_cast<int>(connection.state().fd.number());
}
// Bytes read or written, 0 if it would block; throws HungUp when the peer has closed.
size_t read_some(const Connection &stream, char *buffer, size_t size);
size_t write_some(const Connection &stream, const char *data, size_t size);

// Whether this process may make files in a folder.
bool usable(const std::string &folder);
std::string temporary_folder();
// $XDG_RUNTIME_DIR, else /run/user/UID, else the temporary folder.
std::string xdg_root();

// -- of each system -------------------------------------------------------------------------------

extern const int kRefusals;  // so many refused connections mean that nobody listens
// A socket that never blocks and that no child inherits; of records for the door.
Fd new_socket(bool records);
// The user of the process at the other end; -1 where the system does not say.
int64_t peer_user(const Fd &connection);
// Whether memory from the daemon keeps its size, as far as the system can tell.
bool cannot_shrink(const Fd &memory);

}  // namespace mb::os
