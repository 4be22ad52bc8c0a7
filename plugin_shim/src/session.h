// One frame to the daemon and back, over sessions that the whole process shares.
//
//     idle --take--> filled --render--> lent --done--> idle
//                                         \--abort, time-out--> parked --returned--> idle
//
// A *session* is a lease (door), one arena and one control channel. It belongs to exactly one render at a
// time, so nothing in it is locked and no thread waits for another. The rule that must not be
// broken: an arena that is lent to the daemon is never written; a render that stops waiting parks
// its session until the daemon has returned the arena.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "failure.h"
#include "mpack.h"
#include "slots.h"

namespace mb {

// A frame of the host. `fill` writes an input into its plane, `collect` reads the outputs; both may
// be called again when the daemon was replaced meanwhile.
struct Frame {
  std::string folder, host;
  std::string color_config;  // where the host's OpenColorIO config is; empty: no matter
  int64_t width = 0, height = 0;
  std::vector<Plane> inputs, outputs;
  mpack::Map fields;  // model, params, priority, frame, clean_plate, ext
  std::function<void(const Plane &, uint8_t *rows)> fill;
  std::function<void(const std::vector<Plane> &, const uint8_t *arena)> collect;
};

// Renders, retrying once where a second try may succeed. Returns the `degraded` words of the reply.
// Throws Failure or Aborted.
std::vector<std::string> render(const Frame &frame, const Watch &watch);

// Closes every session; the next render opens new ones.
void close_sessions();

}  // namespace mb
