// How a render ends when it does not end with a picture, and how it is watched meanwhile.
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

// The daemon went away, or speaks nonsense: one more try on a new session is worth it.
struct DaemonLost : Failure {
  explicit DaemonLost(const std::string &sentence) : Failure("E_DAEMON_LOST", sentence, true) {}
};

// The other end of a connection closed it.
struct HungUp : DaemonLost {
  using DaemonLost::DaemonLost;
};

// The host does not want this frame any more.
struct Aborted {};

// The patience of one render: every wait and every long copy asks it, at least every 50 ms.
class Watch {
 public:
  Watch(double timeout_s, std::function<bool()> aborted);
  void check() const;  // throws Aborted, or Failure when the time is up
  double left_s() const;
  int slice_ms() const;  // how long a wait may sleep before it asks again
  void pause(double seconds) const;
  Failure expired() const;  // what an artist is told when the time is up

 private:
  double timeout_s_, until_;
  std::function<bool()> aborted_;
};

}  // namespace mb
