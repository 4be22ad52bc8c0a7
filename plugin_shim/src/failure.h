// How a render ends without a picture, and the time limit and abort check of its waits.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>

namespace mb {

// A failed frame: the wire's stable code and a sentence for the artist.
struct Failure : std::runtime_error {
  Failure(std::string code_, const std::string &sentence, bool retry_ = false)
      : std::runtime_error(sentence), code(std::move(code_)), retry(retry_) {}
  std::string code;
  bool retry;
  bool held = false;           // the arena stays lent to the daemon
  double retry_after_s = 0.1;  // for E_BUSY
};

// No daemon listens in this folder.
Failure no_daemon(const std::string &folder);

// The connection was lost or what arrived is not the protocol: try once more on a new session.
struct DaemonLost : Failure {
  explicit DaemonLost(const std::string &sentence) : Failure("E_DAEMON_LOST", sentence, true) {}
};

// The peer closed the connection.
struct HungUp : DaemonLost {
  using DaemonLost::DaemonLost;
};

// The host aborted this render.
struct Aborted {};

// Time limit and abort of one render: every wait and every long copy checks it, at least every
// 50 ms.
class Watch {
 public:
  Watch(double timeout_s, std::function<bool()> aborted);
  void check() const;  // throws Aborted, or Failure when the time is up
  double left_s() const;
  int slice_ms() const;  // how long a wait may sleep before it checks again
  void pause(double seconds) const;
  Failure expired() const;  // the error shown when the time is up

 private:
  double timeout_s_, until_;
  std::function<bool()> aborted_;
};

}  // namespace mb
