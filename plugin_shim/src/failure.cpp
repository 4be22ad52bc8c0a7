#include "failure.h"

#include <algorithm>
#include <chrono>
#include <thread>

namespace mb {
namespace {

// Less than the 50 ms within which an abort must be noticed, as a margin for busy machines.
constexpr double kSlice = 0.02;

double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

std::string seconds(double value) {
  const std::string text = std::to_string(value);
  return text.substr(0, text.find('.') + 2);
}

}  // namespace

Failure no_daemon(const std::string &folder) {
  return Failure("E_NO_DAEMON", "no daemon is running in " + folder +
                                    ": press Start daemon, or run `mattebridge serve --detach`");
}

Watch::Watch(double timeout_s, std::function<bool()> aborted)
    : timeout_s_(timeout_s), until_(now() + timeout_s), aborted_(std::move(aborted)) {}

void Watch::check() const {
  if (aborted_()) throw Aborted();
  if (left_s() <= 0) throw expired();
}

Failure Watch::expired() const {
  return Failure(
      "E_DEADLINE",
      "no answer within " + seconds(timeout_s_) +
          " s: the daemon may be loading a model or be busy; raise the node's timeout, or "
          "see `mattebridge status`");
}

double Watch::left_s() const { return until_ - now(); }

int Watch::slice_ms() const { return static_cast<int>(std::clamp(left_s(), 0.001, kSlice) * 1000); }

void Watch::pause(double duration) const {
  const double end = now() + duration;
  for (;;) {
    check();
    const double rest = std::min({end - now(), kSlice, left_s()});
    if (rest <= 0) return;
    std::this_thread::sleep_for(std::chrono::duration<double>(rest));
  }
}

}  // namespace mb
