#include "channel.h"

#include <utility>

namespace mb {

std::unique_ptr<Channel> control_channel(const mpack::Value &welcome, const std::string &folder,
                                         const Watch &watch) {
  const std::string path = os::control_path(welcome.text("ctl"), folder);
  if (path.empty())
    throw Failure("E_CONNECTION", "the daemon in " + folder +
                                      " names a control socket outside its folder: "
                                      "stop and start it");
  return open_channel(path, folder, watch);
}

std::string enveloped(const char *op, const std::string &id, const std::string &sid,
                      mpack::Map fields) {
  mpack::Map message{
      {"v", 1}, {"op", op}, {"id", mpack::Value::binary(id)}, {"sid", mpack::Value::binary(sid)}};
  for (auto &field : fields) message.push_back(std::move(field));
  return mpack::pack(message);
}

}  // namespace mb
