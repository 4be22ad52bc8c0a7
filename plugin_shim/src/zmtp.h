// A ZeroMQ DEALER on a plain socket: ZMTP 3.0 with the NULL mechanism (rfc.zeromq.org, 23/ZMTP).
#pragma once

#include <string>
#include <vector>

#include "os.h"

namespace mb {

class Dealer {
 public:
  // Connects and completes the handshake, within the watch's limit and 2 s.
  Dealer(const std::string &path, const std::string &folder, const Watch &watch);

  // Sends "MTB1" and one message of at most 65,536 bytes.
  void send(const std::string &message, const Watch &watch);
  // The next whole message that has arrived; false where there is none yet. Never waits. Throws
  // DaemonLost on anything that is not one.
  bool receive(std::string &message);

  const os::Fd &socket() const { return socket_; }

 private:
  void shake_hands(const Watch &watch);
  void fill(size_t bytes, const Watch &watch);
  void write(const std::string &data, const Watch &watch);
  bool frame(int &flags, std::string &body);
  void command(const std::string &body);
  bool pump();

  os::Fd socket_;
  std::string incoming_;  // keeps a partial frame between two calls
  std::string outgoing_;  // answers to pings, where the socket was full
  std::vector<std::string> parts_;
};

}  // namespace mb
