// A ZeroMQ DEALER on a plain socket: ZMTP 3.0 with the NULL mechanism (rfc.zeromq.org, 23/ZMTP).
#include <vector>

#include "channel.h"
#include "os_unix.h"

namespace mb {
namespace {

constexpr int kMore = 1, kLong = 2, kCommand = 4;
constexpr size_t kMaxParts = 4, kGreeting = 64;
constexpr double kHandshake = 2.0;

std::string greeting() {
  std::string bytes("\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL", 16);
  bytes.resize(kGreeting, '\0');
  return bytes;
}

std::string framed(int flags, const std::string &body) {
  std::string bytes;
  if (body.size() <= 255) {
    bytes += static_cast<char>(flags);
    bytes += static_cast<char>(body.size());
  } else {
    bytes += static_cast<char>(flags | kLong);
    for (int shift = 56; shift >= 0; shift -= 8)
      bytes += static_cast<char>(static_cast<uint64_t>(body.size()) >> shift & 0xff);
  }
  return bytes + body;
}

std::string ready() {
  // Without an identity: ZeroMQ would ignore a second peer of the same identity.
  return std::string(
      "\x05READY\x0bSocket-Type\0\0\0\x06"
      "DEALER",
      28);
}

[[noreturn]] void not_zmtp() {
  throw DaemonLost("the daemon's control socket does not speak the expected protocol");
}

class Dealer : public Channel {
 public:
  // Connects and completes the handshake, within the watch's limit and 2 s.
  Dealer(const std::string &path, const std::string &folder, const Watch &watch)
      : socket_(os::connect_to(path, folder, false, watch)) {
    shake_hands(watch);
  }

  void send(const std::string &message, const Watch &watch) override;
  bool receive(std::string &message) override;
  const os::Connection &connection() const override { return socket_; }

 private:
  void shake_hands(const Watch &watch);
  void write(const std::string &data, const Watch &watch);
  bool frame(int &flags, std::string &body);
  void command(const std::string &body);
  bool pump();

  os::Connection socket_;
  std::string incoming_;  // keeps a partial frame between two calls
  std::string outgoing_;  // answers to pings, where the socket was full
  std::vector<std::string> parts_;
};

void Dealer::shake_hands(const Watch &whole) {
  // A handshake on one machine takes microseconds; a slow one is an error.
  const double limit = whole.left_s() < kHandshake ? whole.left_s() : kHandshake;
  const Watch own(limit, [] { return false; });
  const auto check_limits = [&] {
    whole.check();
    if (own.left_s() <= 0)
      throw DaemonLost("the daemon's control socket did not answer within 2 s");
  };
  size_t sent = 0;
  const std::string hello = greeting() + framed(kCommand, ready());
  int flags = 0;
  std::string body;
  bool greeted = false;
  for (;;) {
    check_limits();
    if (sent < hello.size())
      sent += os::write_some(socket_, hello.data() + sent, hello.size() - sent);
    pump();
    if (!greeted && incoming_.size() >= 12) {
      const auto byte = [&](size_t at) { return static_cast<unsigned char>(incoming_[at]); };
      if (byte(0) != 0xff || !(byte(9) & 1) || byte(10) < 3) not_zmtp();
    }
    if (!greeted && incoming_.size() >= kGreeting) {
      if (incoming_.compare(12, 20, greeting(), 12, 20) != 0) not_zmtp();
      incoming_.erase(0, kGreeting);
      greeted = true;
    }
    if (greeted && frame(flags, body)) {
      if (!(flags & kCommand) || body.compare(0, 6, "\x05READY") != 0) not_zmtp();
      if (sent == hello.size()) return;
    }
    os::wait_for(&socket_, nullptr, sent < hello.size(), whole.slice_ms());
  }
}

void Dealer::send(const std::string &message, const Watch &watch) {
  if (message.size() > kMaxBody)
    throw Failure("E_MESSAGE_TOO_LARGE", "the request is too long: shorten names and texts");
  write(framed(kMore, kTag) + framed(0, message), watch);
}

void Dealer::write(const std::string &data, const Watch &watch) {
  outgoing_ += data;
  while (!outgoing_.empty()) {
    outgoing_.erase(0, os::write_some(socket_, outgoing_.data(), outgoing_.size()));
    if (outgoing_.empty()) return;
    // A partly sent message makes the connection unusable: if this throws, the session is closed.
    watch.check();
    os::wait_for(&socket_, nullptr, true, watch.slice_ms());
  }
}

bool Dealer::receive(std::string &message) {
  pump();
  int flags = 0;
  std::string body;
  while (frame(flags, body)) {
    if (flags & kCommand) {
      command(body);
      continue;
    }
    parts_.push_back(std::move(body));
    if (parts_.size() > kMaxParts) not_zmtp();
    if (flags & kMore) continue;
    if (parts_.size() != 2 || parts_[0] != kTag) not_zmtp();
    message = std::move(parts_[1]);
    parts_.clear();
    return true;
  }
  return false;
}

bool Dealer::pump() {
  char buffer[16384];
  // At most one frame is buffered here; the rest stays in the socket.
  if (incoming_.size() > kMaxBody + 9) return true;
  const size_t got = os::read_some(socket_, buffer, sizeof buffer);
  incoming_.append(buffer, got);
  return got > 0;
}

bool Dealer::frame(int &flags, std::string &body) {
  for (;;) {
    if (incoming_.size() >= 2) {
      flags = static_cast<unsigned char>(incoming_[0]);
      if (flags & ~(kMore | kLong | kCommand) || ((flags & kCommand) && (flags & kMore)))
        not_zmtp();
      const size_t head = flags & kLong ? 9 : 2;
      uint64_t size = 0;
      for (size_t at = 1; at < head && at < incoming_.size(); ++at)
        size = size << 8 | static_cast<unsigned char>(incoming_[at]);
      if (incoming_.size() >= head && size > kMaxBody) not_zmtp();
      if (incoming_.size() >= head && incoming_.size() - head >= size) {
        body = incoming_.substr(head, size);
        incoming_.erase(0, head + size);
        return true;
      }
    }
    if (!pump()) return false;
  }
}

void Dealer::command(const std::string &body) {
  if (body.compare(0, 6,
                   "\x05"
                   "ERROR") == 0)
    not_zmtp();
  if (body.compare(0, 5, "\x04PING") != 0 || body.size() < 7) return;
  // TTL, then at most 16 bytes that are echoed. If the socket is full, the answer waits.
  outgoing_ += framed(kCommand, "\x04PONG" + body.substr(7, 16));
  if (outgoing_.size() > kMaxBody) not_zmtp();
  outgoing_.erase(0, os::write_some(socket_, outgoing_.data(), outgoing_.size()));
}

}  // namespace

std::unique_ptr<Channel> open_channel(const std::string &path, const std::string &folder,
                                      const Watch &watch) {
  return std::make_unique<Dealer>(path, folder, watch);
}

}  // namespace mb
