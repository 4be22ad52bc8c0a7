// The control channel where the system's connections keep the borders of records: the tag and the
// message are one record (docs/protocol.md, "Windows").
#include "channel.h"

namespace mb {
namespace {

const std::string tag = kTag;

class RecordChannel : public Channel {
 public:
  RecordChannel(const std::string &path, const std::string &folder, const Watch &watch)
      : connection_(os::connect_to(path, folder, true, watch)) {}

  void send(const std::string &message, const Watch &watch) override {
    if (message.size() > kMaxBody)
      throw Failure("E_MESSAGE_TOO_LARGE", "the request is too long: shorten names and texts");
    const std::string record = tag + message;
    while (!os::send_record(connection_, record)) {
      watch.check();
      os::wait_for(&connection_, nullptr, true, watch.slice_ms());
    }
  }

  bool receive(std::string &message) override {
    os::Record record;
    if (!os::receive_record(connection_, tag.size() + kMaxBody, record)) return false;
    if (record.data.empty()) throw HungUp("the daemon closed the control connection");
    if (record.cut || !record.memory.empty() || record.data.compare(0, tag.size(), tag) != 0)
      throw DaemonLost("the daemon's control channel does not speak the expected protocol");
    message = record.data.substr(tag.size());
    return true;
  }

  const os::Connection &connection() const override { return connection_; }

 private:
  os::Connection connection_;
};

}  // namespace

std::unique_ptr<Channel> open_channel(const std::string &path, const std::string &folder,
                                      const Watch &watch) {
  return std::make_unique<RecordChannel>(path, folder, watch);
}

}  // namespace mb
