// macOS: a stream with a length before each record, and memory without seals. It uses what POSIX has,
// so it runs on Linux as well, where it is tested.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifdef __APPLE__
#include <sys/ucred.h>
#endif

#include "os_unix.h"

namespace mb::os {
namespace {

constexpr size_t kLength = 4;  // bytes before each record, little-endian

// Whether the peer has closed and what is there to read is all that will come.
bool ended(const Connection &door) {
  pollfd watched{socket_of(door), POLLIN, 0};
  return poll(&watched, 1, 0) > 0 && (watched.revents & (POLLHUP | POLLERR | POLLNVAL));
}

// Looks at the next bytes without taking them. False: they have not all arrived.
bool peek(const Connection &door, char *bytes, size_t count) {
  const ssize_t seen = recv(socket_of(door), bytes, count, MSG_PEEK | MSG_DONTWAIT);
  if (seen == static_cast<ssize_t>(count)) return true;
  if (seen < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (seen <= 0 || ended(door)) throw HungUp("the daemon closed the door");
  return false;
}

size_t length_of(const char *bytes) {
  size_t length = 0;
  for (size_t index = kLength; index-- > 0;)
    length = length << 8 | static_cast<unsigned char>(bytes[index]);
  return length;
}

void take_memory(msghdr *message, Record &record) {
  for (cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t index = 0; index < count; ++index) {
      int number;
      memcpy(&number, CMSG_DATA(part) + index * sizeof(int), sizeof(int));
      fcntl(number, F_SETFD, FD_CLOEXEC);
      record.memory.emplace_back(number);
    }
  }
}

}  // namespace

const size_t kLongestPath = 103;  // sockaddr_un of macOS holds 104, with a final zero
// macOS refuses a connection also where too many wait to be accepted.
const int kRefusals = 5;

std::string runtime_root() {
#ifdef __APPLE__
  // The user's own temporary folder, whatever the host's environment says.
  char folder[1024];
  const size_t size = confstr(_CS_DARWIN_USER_TEMP_DIR, folder, sizeof folder);
  const std::string root = size > 1 && size <= sizeof folder ? folder : temporary_folder();
  return root + "/mattebridge-" + std::to_string(getuid());
#else
  return xdg_root();
#endif
}

Fd new_socket(bool) {
  Fd connection(socket(AF_UNIX, SOCK_STREAM, 0));
  if (connection.number() < 0) return connection;
  fcntl(connection.number(), F_SETFD, FD_CLOEXEC);
  fcntl(connection.number(), F_SETFL, O_NONBLOCK);
#ifdef SO_NOSIGPIPE
  const int on = 1;
  setsockopt(connection.number(), SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
  return connection;
}

int64_t peer_user(const Fd &connection) {
#ifdef __APPLE__
  xucred peer{};
  socklen_t size = sizeof peer;
  const int status = getsockopt(connection.number(), SOL_LOCAL, LOCAL_PEERCRED, &peer, &size);
  return status == 0 && peer.cr_version == XUCRED_VERSION ? static_cast<int64_t>(peer.cr_uid) : -1;
#else
  ucred peer{};
  socklen_t size = sizeof peer;
  const int status = getsockopt(connection.number(), SOL_SOCKET, SO_PEERCRED, &peer, &size);
  return status == 0 ? static_cast<int64_t>(peer.uid) : -1;
#endif
}

// macOS refuses to change the size of such memory; there is nothing to ask it.
bool cannot_shrink(const Fd &) { return true; }

bool receive_record(const Connection &door, size_t limit, Record &record) {
  char head[kLength];
  const ssize_t seen = recv(socket_of(door), head, 1, MSG_PEEK | MSG_DONTWAIT);
  if (seen == 0) return true;  // closed: an empty record
  if (!peek(door, head, kLength)) return false;
  const size_t length = length_of(head);
  if (length > limit) {
    record.cut = true;
    record.data.assign(head, kLength);
    return true;
  }
  std::string buffer(kLength + length, '\0');
  if (!peek(door, &buffer[0], buffer.size())) return false;
  iovec place{&buffer[0], buffer.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxMemory * sizeof(int))];
  msghdr message{};
  message.msg_iov = &place;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t size = recvmsg(socket_of(door), &message, MSG_DONTWAIT);
  if (size != static_cast<ssize_t>(buffer.size())) throw HungUp("the daemon closed the door");
  take_memory(&message, record);
  record.cut = message.msg_flags & MSG_CTRUNC;
  record.data = buffer.substr(kLength);
  return true;
}

bool send_record(const Connection &door, const std::string &data) {
  std::string record;
  for (size_t index = 0; index < kLength; ++index)
    record += static_cast<char>(data.size() >> (8 * index) & 0xff);
  record += data;
  const ssize_t sent = send(socket_of(door), record.data(), record.size(), kNoSignal);
  if (sent == static_cast<ssize_t>(record.size())) return true;
  if (sent < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  throw HungUp("the daemon closed the door");
}

}  // namespace mb::os
