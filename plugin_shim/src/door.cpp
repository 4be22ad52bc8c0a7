#include "door.h"

#include <algorithm>

#include "version.h"

namespace mb {
namespace {

constexpr double kConnect = 2.0, kAnswer = 5.0;
// Allocating the arena dominates the time of an answer: about 1 s per GiB on a busy machine.
constexpr double kAnswerPerGiB = 5.0;

os::Connection connect_to_door(const std::string &folder, const Watch &watch) {
  os::check_folder(folder);
  const Watch own(std::min(kConnect, watch.left_s()), [&] { return watch.check(), false; });
  try {
    return os::connect_to(folder + "/door", folder, true, own);
  } catch (const Failure &failure) {
    if (failure.code != "E_DEADLINE") throw;
    throw Failure("E_CONNECTION",
                  "the daemon in " + folder +
                      " does not accept connections: it may hang; stop and start it");
  }
}

Failure refusal(const mpack::Value &answer) {
  Failure failure(answer.text("code"), answer.text("message"), answer.truth("retry"));
  failure.retry_after_s = answer.number("retry_after_ms", 100) / 1000;
  return failure;
}

}  // namespace

Door::Door(const std::string &folder, const Watch &watch)
    : folder_(folder), connection_(connect_to_door(folder, watch)) {
  os::close_after_fork(connection_);
}

Door::~Door() { os::forget_after_fork(connection_); }

mpack::Value Door::hello(const std::string &host, int64_t bytes, Arena *arena, const Watch &watch) {
  using mpack::Array;
  using mpack::Map;
  const Map client{{"name", "ofx"},
                   {"ver", kVersion},
                   {"host", mpack::clean_text(host, 128)},
                   {"pid", os::process_id()}};
  const Map want{{"slots", arena ? 1 : 0}, {"bytes", bytes}};
  const Map message{{"op", "hello"}, {"proto", Array{1, 1}}, {"client", client}, {"want", want}};
  mpack::Value welcome = ask(message, bytes, arena, watch);
  int64_t version = 0;
  if (!welcome.whole("proto", &version) || version != 1 || welcome.binary_at("sid").size() != 16)
    throw Failure("E_VERSION", "the daemon in " + folder_ + " speaks protocol " +
                                   std::to_string(version) +
                                   " and this plugin protocol 1: install the same version of both");
  return welcome;
}

void Door::resize(int64_t bytes, Arena &arena, const Watch &watch) {
  const mpack::Map want{{"slots", 1}, {"bytes", bytes}};
  ask(mpack::Map{{"op", "resize"}, {"want", want}}, bytes, &arena, watch);
}

mpack::Value Door::ask(const mpack::Value &message, int64_t bytes, Arena *arena,
                       const Watch &watch) {
  const std::string record = mpack::pack(message, mpack::kMaxRecord);
  const double limit = kAnswer + kAnswerPerGiB * static_cast<double>(bytes) / (1 << 30);
  const Watch own(limit, [] { return false; });
  bool sent = false;
  for (;;) {
    watch.check();
    if (own.left_s() <= 0)
      throw Failure("E_CONNECTION", "the daemon in " + folder_ +
                                        " does not answer at the door: "
                                        "see `mattebridge status`, or stop and start it");
    if (!sent) sent = os::send_record(connection_, record);
    os::Record answer;
    if (os::receive_record(connection_, mpack::kMaxRecord, answer)) {
      if (answer.data.empty()) throw HungUp("the daemon closed the door");
      if (answer.cut) throw Failure("E_CONNECTION", "the daemon's answer was cut short");
      const mpack::Value found = mpack::unpack(answer.data, mpack::kMaxRecord);
      if (found.text("op") == "error") throw refusal(found);
      if (!arena) return found;
      const mpack::Value *slots = found.find("slots");
      if (!slots || slots->items.size() != 1 || answer.memory.size() != 1)
        throw Failure("E_CONNECTION", "the daemon did not send exactly one arena");
      int64_t size = 0;
      Arena made;
      if (!slots->items[0].whole("id", &made.number) || !slots->items[0].whole("bytes", &size) ||
          size < bytes)
        throw Failure("E_CONNECTION", "the daemon sent a smaller arena than requested");
      made.memory = os::Map(answer.memory[0], size);
      *arena = std::move(made);
      return found;
    }
    os::wait_for(&connection_, nullptr, !sent, watch.slice_ms());
  }
}

}  // namespace mb
