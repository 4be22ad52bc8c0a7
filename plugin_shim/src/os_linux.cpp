// Linux: sealed memory, sockets that keep the borders of records.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os_unix.h"

#ifndef F_GET_SEALS  // glibc 2.17 is older than seals; the kernel's numbers are fixed
#define F_GET_SEALS 1034
#endif

namespace mb::os {
namespace {

constexpr int kSeals = 1 | 2 | 4;  // SEAL, SHRINK, GROW
constexpr unsigned kSocketFlags = SOCK_CLOEXEC | SOCK_NONBLOCK;

}  // namespace

const size_t kLongestPath = 107;  // sockaddr_un holds 108, with a final zero
const int kRefusals = 1;

std::string runtime_root() { return xdg_root(); }

Fd new_socket(bool records) {
  return Fd(socket(AF_UNIX, (records ? SOCK_SEQPACKET : SOCK_STREAM) | kSocketFlags, 0));
}

int64_t peer_user(const Fd &connection) {
  ucred peer{};
  socklen_t size = sizeof peer;
  const int status = getsockopt(connection.number(), SOL_SOCKET, SO_PEERCRED, &peer, &size);
  return status == 0 ? static_cast<int64_t>(peer.uid) : -1;
}

bool cannot_shrink(const Fd &memory) {
  struct stat found{};
  const int seals = fcntl(memory.number(), F_GET_SEALS);
  return fstat(memory.number(), &found) == 0 && S_ISREG(found.st_mode) && seals >= 0 &&
         (seals & kSeals) == kSeals;
}

bool receive_record(const Connection &door, size_t limit, Record &record) {
  std::string buffer(limit + 1, '\0');
  iovec place{&buffer[0], buffer.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxMemory * sizeof(int))];
  msghdr message{};
  message.msg_iov = &place;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t size = recvmsg(socket_of(door), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (size < 0) {
    if (errno == EAGAIN || errno == EINTR) return false;
    throw HungUp("the daemon closed the door");
  }
  for (cmsghdr *part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t index = 0; index < count; ++index) {
      int number;
      memcpy(&number, CMSG_DATA(part) + index * sizeof(int), sizeof(int));
      record.memory.emplace_back(number);
    }
  }
  // By mask, because the flags returned contain MSG_CMSG_CLOEXEC as well.
  record.cut = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || static_cast<size_t>(size) > limit;
  record.data = buffer.substr(0, static_cast<size_t>(size));
  return true;
}

bool send_record(const Connection &door, const std::string &data) {
  if (send(socket_of(door), data.data(), data.size(), kNoSignal) >= 0) return true;
  if (errno == EAGAIN || errno == EINTR) return false;
  throw HungUp("the daemon closed the door");
}

}  // namespace mb::os
