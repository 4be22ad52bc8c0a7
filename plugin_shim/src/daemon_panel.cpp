#include "daemon_panel.h"

#include <chrono>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "channel.h"
#include "door.h"
#include "host.h"
#include "interpreter.h"
#include "launch.h"

namespace mb {
namespace {

// A daemon answers within milliseconds, whatever its workers do.
constexpr double kAsk = 2.0;
// Where the artist did not ask for it, the host's window is not held up.
constexpr double kGlance = 0.05;
// A daemon accepts in about half a second, most of it Python's own start; after this long the
// host's window is given back, and the daemon may still come.
constexpr double kStart = 8.0;
constexpr auto kPoll = std::chrono::milliseconds(50);
// Exit status of a daemon that found another one starting.
constexpr int kAnotherInstance = 17;

// The start that is under way, so that a second click waits for it and starts no other.
struct Start {
  std::string folder;
  os::Launch launch;
};
std::mutex start_mutex;
Start *under_way = nullptr;

mpack::Value ask_status(const std::string &folder, double limit) {
  const Watch watch(limit, [] { return false; });
  Door door(folder, watch);
  const mpack::Value welcome = door.hello(host.name, 0, nullptr, watch);
  const std::unique_ptr<Channel> channel = control_channel(welcome, folder, watch);
  const std::string id = os::random_bytes(16);
  channel->send(enveloped("status", id, welcome.binary_at("sid"), {}), watch);
  std::string message;
  for (;;) {
    while (channel->receive(message)) {
      mpack::Value reply = mpack::unpack(message);
      if (reply.binary_at("id") != id) continue;
      if (reply.text("op") == "status") return reply;
      throw Failure(reply.text("code"), reply.text("message"));
    }
    if (door.lost()) throw DaemonLost("the daemon in " + folder + " ended while it was asked");
    watch.check();
    os::wait_for(&channel->connection(), &door.connection(), false, watch.slice_ms());
  }
}

std::string counted(int64_t number, const std::string &what) {
  return std::to_string(number) + " " + what + (number == 1 ? "" : "s");
}

std::string line_of(const mpack::Value &status) {
  int64_t process = 0, interactive = 0, batch = 0;
  status.whole("pid", &process);
  if (const mpack::Value *queue = status.find("queue")) {
    queue->whole("interactive", &interactive);
    queue->whole("batch", &batch);
  }
  const mpack::Value *workers = status.find("workers");
  const auto count = static_cast<int64_t>(workers ? workers->items.size() : 0);
  return "daemon " + status.text("state") + ", mattebridge " + status.text("version") +
         ", process " + std::to_string(process) + " in " + status.text("folder") + "; " +
         counted(count, "worker") + "; " + counted(interactive + batch, "frame") + " waiting";
}

// The line of a daemon that runs; throws where none does.
std::string found(const std::string &folder) {
  try {
    return line_of(ask_status(folder, kAsk));
  } catch (const Failure &failure) {
    if (failure.code != "E_DEADLINE") throw;
    throw Failure("E_CONNECTION",
                  "the daemon in " + folder + " does not answer: stop and start it");
  }
}

// Nobody to connect to yet, or one that is about to end.
bool may_come(const Failure &failure) {
  return failure.code == "E_NO_DAEMON" || failure.code == "E_DRAINING" ||
         failure.code == "E_DAEMON_LOST";
}

void launch_for(const std::string &folder) {
  if (under_way && under_way->folder == folder && !under_way->launch.ended()) return;
  std::vector<std::string> command = daemon_command();
  for (const std::string &word : {std::string("serve"), std::string("--detach"),
                                  std::string("--auto"), std::string("--instance"), folder})
    command.push_back(word);
  Start *made = new Start{folder, os::Launch(command)};
  delete std::exchange(under_way, made);
}

std::string started(const std::string &folder) {
  const Watch watch(kStart, [] { return false; });
  for (;;) {
    // First whether it has ended: it does so when its daemon accepts.
    const std::optional<os::Ended> ended = under_way->launch.ended();
    try {
      return found(folder);
    } catch (const Failure &failure) {
      if (!may_come(failure)) throw;
    }
    if (ended && ended->status != 0 && ended->status != kAnotherInstance)
      throw Failure("E_CONNECTION",
                    "the daemon did not start: " +
                        (ended->last_line.empty() ? "exit status " + std::to_string(ended->status)
                                                  : ended->last_line));
    if (watch.left_s() <= 0)
      return "the daemon is being started: press Daemon status in a few seconds";
    std::this_thread::sleep_for(kPoll);
  }
}

}  // namespace

std::string daemon_line(const std::string &folder) {
  try {
    return found(folder);
  } catch (const Failure &failure) {
    return failure.what();
  }
}

std::string daemon_glance(const std::string &folder) {
  try {
    return line_of(ask_status(folder, kGlance));
  } catch (const Failure &failure) {
    if (failure.code == "E_DEADLINE") return "a daemon is busy: press Daemon status";
    return failure.what();
  }
}

std::string start_daemon(const std::string &folder) {
  const std::lock_guard<std::mutex> lock(start_mutex);
  try {
    return found(folder);
  } catch (const Failure &failure) {
    if (!may_come(failure)) return failure.what();
  }
  try {
    launch_for(folder);
    return started(folder);
  } catch (const Failure &failure) {
    return failure.what();
  }
}

void forget_start() {
  const std::lock_guard<std::mutex> lock(start_mutex);
  delete std::exchange(under_way, nullptr);
}

}  // namespace mb
