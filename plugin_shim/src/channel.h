// The control channel of a session: requests go out, replies come in. zmtp.cpp has it for Linux and
// macOS, records.cpp for Windows.
#pragma once

#include <memory>
#include <string>

#include "mpack.h"
#include "os.h"

namespace mb {

inline constexpr size_t kMaxBody = 65536;  // bytes of the longest message
inline constexpr const char *kTag = "MTB1";

class Channel {
 public:
  Channel() = default;
  Channel(const Channel &) = delete;
  virtual ~Channel() = default;

  // Sends the tag and one message. After a Failure the channel is not to be used again.
  virtual void send(const std::string &message, const Watch &watch) = 0;
  // The next whole message that has arrived; false where there is none yet. Never waits. Throws
  // DaemonLost on anything that is not one.
  virtual bool receive(std::string &message) = 0;
  virtual const os::Connection &connection() const = 0;
};

// Connects to the control channel at `path`, which lies in the daemon's folder.
std::unique_ptr<Channel> open_channel(const std::string &path, const std::string &folder,
                                      const Watch &watch);

// The control channel that a welcome names; Failure where it is not in the daemon's folder.
std::unique_ptr<Channel> control_channel(const mpack::Value &welcome, const std::string &folder,
                                         const Watch &watch);

// One request of a session, to be sent.
std::string enveloped(const char *op, const std::string &id, const std::string &sid,
                      mpack::Map fields);

}  // namespace mb
