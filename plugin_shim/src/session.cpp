#include "session.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <mutex>

#include "channel.h"
#include "door.h"
#include "labels.h"

#ifndef MATTEBRIDGE_IDLE_S
#define MATTEBRIDGE_IDLE_S 60
#endif

namespace mb {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kIdle = std::chrono::seconds(MATTEBRIDGE_IDLE_S);
// Poll interval while waiting for another render's session; short, because there is no notification
// when one is given back.
constexpr double kTurn = 0.005;
// How much later than the closing of the door the last reply may arrive.
constexpr int kLastReplyMs = 20;
constexpr int kConnectTries = 5;
constexpr double kConnectPause = 0.02;
constexpr double kCancelLimit = 0.02;
// The daemon's deadline error should arrive before the node's time limit: at nine tenths of it, but
// at most this long before it (both are on one machine).
constexpr double kDeadlineShare = 0.9, kDeadlineMargin = 0.04;

size_t session_limit() {
  const int wanted = std::atoi(os::environment("MATTEBRIDGE_OFX_SESSIONS").c_str());
  return wanted ? static_cast<size_t>(std::clamp(wanted, 1, 8)) : 2;
}

class Session {
 public:
  Session(const std::string &folder, const std::string &host, int64_t bytes, const Watch &watch)
      : folder_(folder),
        door_(folder, watch),
        welcome_(door_.hello(host, bytes, &arena_, watch)),
        channel_(control_channel(welcome_, folder, watch)),
        sid_(welcome_.binary_at("sid")) {
    const mpack::Value *server = welcome_.find("server");
    if (server && server->find("epoch")) epoch_ = *server->find("epoch");
  }

  const std::string &folder() const { return folder_; }
  int64_t bytes() const { return arena_.memory.size(); }
  bool lost() const { return door_.lost(); }

  void grow(int64_t bytes, const Watch &watch) {
    // After a refusal the old arena is still valid; after anything else an answer may still arrive
    // that would be taken for that of the next request.
    broken = true;
    try {
      door_.resize(bytes, arena_, watch);
    } catch (const DaemonLost &) {
      throw;
    } catch (const Failure &failure) {
      broken = failure.code != "E_QUOTA" && failure.code != "E_BUSY";
      throw;
    }
    broken = false;
  }

  void write(const Frame &frame, const std::vector<Plane> &inputs) {
    ++generation_;
    uint8_t *base = arena_.memory.data();
    write_begin(base, generation_);
    for (const Plane &plane : inputs) frame.fill(plane, base + plane.offset);
    write_end(base, generation_);
  }

  const uint8_t *data() const { return arena_.memory.data(); }

  void request(mpack::Map fields, const std::string &id, const Watch &watch) {
    id_ = id;
    fields.emplace_back("slot", arena_.number);
    fields.emplace_back("gen", generation_);
    broken = true;  // a partly sent request makes the connection unusable
    channel_->send(enveloped("render", id, sid_, std::move(fields)), watch);
    broken = false;
    lent = true;
  }

  // The final reply to the request; checks the watch in every slice.
  mpack::Value reply(const Watch &watch) {
    mpack::Value found;
    for (;;) {
      watch.check();
      if (next(found)) return found;
      if (lost()) {
        // The last reply and the closing of the door arrive on two connections.
        os::wait_for(&channel_->connection(), nullptr, false, kLastReplyMs);
        if (next(found)) return found;
        throw DaemonLost("the connection to the daemon was lost while it computed a frame");
      }
      os::wait_for(&channel_->connection(), &door_.connection(), false, watch.slice_ms());
    }
  }

  void cancel() {
    const Watch brief(kCancelLimit, [] { return false; });
    mpack::Map fields{{"target", mpack::Value::binary(id_)}};
    channel_->send(enveloped("cancel", os::random_bytes(16), sid_, std::move(fields)), brief);
  }

  // Reads the replies that have arrived for a parked session; true when its arena was returned.
  bool returned() {
    mpack::Value found;
    while (lent && next(found)) continue;
    return !lent;
  }

  bool lent = false;    // the arena is the daemon's
  bool broken = false;  // not to be used again
  Clock::time_point since = Clock::now();

 private:
  // The next final reply to the outstanding request; others are dropped.
  bool next(mpack::Value &found) {
    std::string message;
    while (channel_->receive(message)) {
      try {
        found = mpack::unpack(message);
      } catch (const Failure &failure) {
        throw DaemonLost(failure.what());
      }
      if (is_final_reply(found)) return true;
    }
    return false;
  }

  bool is_final_reply(const mpack::Value &found) {
    const mpack::Value *epoch = found.find("epoch");
    const std::string op = found.text("op");
    if (!epoch || !(*epoch == epoch_) || found.binary_at("id") != id_) return false;
    const bool final = op == "done" || op == "error" || op == "cancelled";
    // The error of a lost lease names no arena; every other reply must name this one.
    const bool arena_less = op == "error" && !found.find("slot") && !found.find("gen");
    if ((!final && op != "released") || (!arena_less && !names_arena(found))) return false;
    if (op == "released" || !found.truth("held")) lent = false;
    return final;
  }

  bool names_arena(const mpack::Value &found) const {
    int64_t slot = -1, generation = -1;
    return found.whole("slot", &slot) && found.whole("gen", &generation) && slot == arena_.number &&
           generation == static_cast<int64_t>(generation_);
  }

  std::string folder_;
  Arena arena_;
  Door door_;
  mpack::Value welcome_;
  std::unique_ptr<Channel> channel_;
  std::string sid_, id_;
  mpack::Value epoch_;
  uint64_t generation_ = 0;
};

using SessionPointer = std::unique_ptr<Session>;

// All sessions of this process that are not used by a render at the moment.
class Pool {
 public:
  SessionPointer take(const Frame &frame, int64_t bytes, const Watch &watch) {
    for (;;) {
      watch.check();
      bool may_open = false;
      SessionPointer session = pick(frame.folder, bytes, may_open);
      try {
        if (session && session->bytes() < bytes) session->grow(bytes, watch);
        if (!session && may_open) session = open(frame, bytes, watch);
        if (session) return session;
        watch.pause(kTurn);
      } catch (const Failure &failure) {
        give_back(std::move(session));
        if (failure.code == "E_QUOTA" && drop_idle()) continue;
        if (!worth_waiting(failure)) throw;
        watch.pause(failure.retry_after_s);
      } catch (...) {
        give_back(std::move(session));
        throw;
      }
    }
  }

  // After a render: the session becomes idle, is parked while its arena is lent, or is closed.
  void give_back(SessionPointer session) {
    std::vector<SessionPointer> leaving;  // closed after the lock is released
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      --in_use_;
      if (!session) return;
      session->since = Clock::now();
      if (session->broken) leaving.push_back(std::move(session));
      else if (session->lent) parked_.push_back(std::move(session));
      else idle_.push_back(std::move(session));
      for (auto old = idle_.begin(); idle_.size() > 1 && old != idle_.end();) {
        if (Clock::now() - (*old)->since > kIdle) {
          leaving.push_back(std::move(*old));
          old = idle_.erase(old);
        } else {
          ++old;
        }
      }
    }
  }

 private:
  // A daemon that dies or stops may accept a connection and then close it: trying again shows
  // whether a daemon runs.
  static SessionPointer open(const Frame &frame, int64_t bytes, const Watch &watch) {
    for (int tries = kConnectTries; tries-- > 0; watch.pause(kConnectPause)) {
      try {
        return std::make_unique<Session>(frame.folder, frame.host, bytes, watch);
      } catch (const HungUp &) {
        continue;
      } catch (const DaemonLost &lost) {
        throw Failure("E_CONNECTION", std::string(lost.what()) + ": stop and start it");
      }
    }
    throw Failure("E_CONNECTION", "the daemon in " + frame.folder +
                                      " closes each new connection: see its log, or stop and start "
                                      "it");
  }

  SessionPointer pick(const std::string &folder, int64_t bytes, bool &may_open) {
    std::vector<SessionPointer> leaving;
    const std::lock_guard<std::mutex> lock(mutex_);
    collect_parked(leaving);
    size_t best = idle_.size();
    for (size_t index = idle_.size(); index-- > 0;) {
      if (idle_[index]->lost()) {  // the daemon was restarted between two frames
        leaving.push_back(std::move(idle_[index]));
        idle_.erase(idle_.begin() + static_cast<std::ptrdiff_t>(index));
        if (best > index) --best;
        continue;
      }
      const bool fits = idle_[index]->bytes() >= bytes;
      if (idle_[index]->folder() == folder && (best >= idle_.size() || fits)) best = index;
    }
    SessionPointer found;
    if (best < idle_.size()) {
      found = std::move(idle_[best]);
      idle_.erase(idle_.begin() + static_cast<std::ptrdiff_t>(best));
    }
    may_open = !found && in_use_ + parked_.size() < session_limit();
    if (found || may_open) ++in_use_;
    return found;
  }

  void collect_parked(std::vector<SessionPointer> &leaving) {
    for (size_t index = parked_.size(); index-- > 0;) {
      bool back = false, over = false;
      try {
        back = parked_[index]->returned();
        over = !back && parked_[index]->lost();
      } catch (const Failure &) {
        over = true;
      }
      if (!back && !over) continue;
      (over ? leaving : idle_).push_back(std::move(parked_[index]));
      parked_.erase(parked_.begin() + static_cast<std::ptrdiff_t>(index));
    }
  }

  // Closes the idle sessions, because their arenas count against the quota. False: there were none.
  bool drop_idle() {
    std::vector<SessionPointer> leaving;
    const std::lock_guard<std::mutex> lock(mutex_);
    leaving.swap(idle_);
    return !leaving.empty();
  }

  // A quota is worth waiting for only while other renders of this process hold sessions.
  bool worth_waiting(const Failure &failure) {
    if (failure.code == "E_BUSY" || failure.code == "E_DRAINING") return true;
    const std::lock_guard<std::mutex> lock(mutex_);
    return failure.code == "E_QUOTA" && in_use_ + parked_.size() > 0;
  }

  std::mutex mutex_;
  std::vector<SessionPointer> idle_, parked_;
  size_t in_use_ = 0;
};

// Made by the first render. A forked child starts with none: the parent's lock may be held and its
// sessions are the parent's.
std::atomic<Pool *> the_pool{nullptr};

Pool &pool() {
  Pool *found = the_pool.load();
  if (found) return *found;
  os::on_fork([] { the_pool.store(nullptr); });
  Pool *made = new Pool;
  if (the_pool.compare_exchange_strong(found, made)) return *made;
  delete made;
  return *found;
}

// A session for the time of one attempt; the destructor gives it back.
class Turn {
 public:
  Turn(Pool &owner, const Frame &frame, int64_t bytes, const Watch &watch)
      : owner_(owner), session_(owner.take(frame, bytes, watch)) {}
  Turn(const Turn &) = delete;
  ~Turn() { owner_.give_back(std::move(session_)); }
  Session *operator->() const { return session_.get(); }

 private:
  Pool &owner_;
  SessionPointer session_;
};

int64_t deadline_ms(const Watch &watch) {
  const double left = watch.left_s();
  return std::max<int64_t>(
      1, static_cast<int64_t>(1000 * std::max(left * kDeadlineShare, left - kDeadlineMargin)));
}

mpack::Array on_wire(const std::vector<Plane> &planes, size_t from, size_t to) {
  mpack::Array list;
  for (size_t index = from; index < to; ++index) {
    const Plane &plane = planes[index];
    list.push_back(mpack::Map{{"role", plane.role},
                              {"off", plane.offset},
                              {"w", plane.width},
                              {"h", plane.height},
                              {"c", plane.channels},
                              {"dtype", wire_name(plane.sample)},
                              {"stride", plane.stride}});
  }
  return list;
}

Failure as_failure(const mpack::Value &reply) {
  if (reply.text("op") == "cancelled")
    return Failure("E_CANCELLED", "the daemon cancelled the frame");
  Failure failure(reply.text("code"), reply.text("message"), reply.truth("retry"));
  failure.held = reply.truth("held");
  failure.retry_after_s = std::max(1.0, reply.number("retry_after_ms", 100)) / 1000;
  return failure;
}

// Whether the frame's colour space was looked up in another config than the host's.
bool in_other_config(const mpack::Value &notes, const std::string &config) {
  const mpack::Value *color = notes.find("color");
  return color && !config.empty() && color->text("config") != config;
}

std::vector<std::string> words(const mpack::Value &reply, const std::string &config) {
  std::vector<std::string> found;
  if (const mpack::Value *degraded = reply.find("degraded"))
    for (const mpack::Value &word : degraded->items) found.push_back(word.bytes);
  const mpack::Value *notes = reply.find("notes");
  if (!notes) return found;
  for (const Label &label : kLabels)
    if (notes->truth(label.word)) found.push_back(label.word);
  if (in_other_config(*notes, config)) found.push_back("other_color_config");
  return found;
}

// One attempt on one session, from the host's pixels to the host's pixels.
std::vector<std::string> attempt(const Frame &frame, const std::string &id, const Watch &watch) {
  std::vector<Plane> planes = frame.inputs;
  planes.insert(planes.end(), frame.outputs.begin(), frame.outputs.end());
  place(frame.width, frame.height, planes);
  const auto split = static_cast<std::ptrdiff_t>(frame.inputs.size());

  const Turn session(pool(), frame, arena_bytes(frame.width, frame.height, planes), watch);
  session->write(frame, {planes.begin(), planes.begin() + split});
  mpack::Map fields = frame.fields;
  fields.emplace_back("in", on_wire(planes, 0, frame.inputs.size()));
  fields.emplace_back("out", on_wire(planes, frame.inputs.size(), planes.size()));
  fields.emplace_back("deadline_ms", deadline_ms(watch));
  session->request(std::move(fields), id, watch);
  mpack::Value reply;
  try {
    reply = session->reply(watch);
  } catch (const DaemonLost &) {
    session->broken = true;
    throw;
  } catch (...) {  // aborted, or the time is up: the arena stays lent to the daemon
    try {
      session->cancel();
    } catch (const Failure &) {
      session->broken = true;
    }
    throw;
  }
  if (reply.text("op") == "done") {
    frame.collect({planes.begin() + split, planes.end()}, session->data());
    return words(reply, frame.color_config);
  }
  const Failure failure = as_failure(reply);
  if (failure.code == "E_LEASE" || failure.code == "E_SLOT_BUSY") session->broken = true;
  if (failure.code == "E_DEADLINE") throw watch.expired();
  throw failure;
}

bool once_more(const Failure &failure) {
  const bool named = failure.code == "E_TORN" || failure.code == "E_WORKER_LOST";
  return (named && failure.retry && !failure.held) || failure.code == "E_LEASE" ||
         failure.code == "E_SLOT_BUSY";
}

}  // namespace

std::vector<std::string> render(const Frame &frame, const Watch &watch) {
  const std::string id = os::random_bytes(16);
  int losses = 0, retries = 0;
  std::string first_loss;
  for (;;) {
    try {
      return attempt(frame, id, watch);
    } catch (const DaemonLost &lost) {
      if (losses++)
        throw Failure(lost.code,
                      std::string(lost.what()) + ", twice with this frame: see the daemon's log");
      first_loss = lost.what();
    } catch (const Failure &failure) {
      if (losses && failure.code == "E_NO_DAEMON")
        throw Failure("E_DAEMON_LOST", first_loss + ", and " + failure.what());
      const bool wait = failure.retry && (failure.code == "E_BUSY" || failure.code == "E_DRAINING");
      if (!wait && (!once_more(failure) || retries++)) throw;
      if (wait) watch.pause(failure.retry_after_s);
    }
    watch.check();
  }
}

void close_sessions() { delete the_pool.exchange(nullptr); }

}  // namespace mb
