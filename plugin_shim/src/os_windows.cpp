// Windows: named pipes that keep the borders of records, sections, and the user of a process; the
// twin of bridge/mattebridge/wire/windows.py and windows_pipes.py.
//
// A record on a pipe is `count` (4 bytes), `count` handles of this process (8 bytes each), then the
// data. One read is under way on each connection, and its event is what is waited for. Windows ends
// a read when the thread that began it ends, so whoever notices begins it again.
//
// The rule that must not be broken: the memory of a read or write that is under way outlives it.
#include "os_windows.h"
// After windows.h, which they need.
#include <aclapi.h>
#include <bcrypt.h>
#include <sddl.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "channel.h"
#include "sha256.h"

namespace mb::os {

std::wstring wide(const std::string &text) {
  const int size = static_cast<int>(text.size());
  std::wstring made(static_cast<size_t>(
                        size ? MultiByteToWideChar(CP_UTF8, 0, text.data(), size, nullptr, 0) : 0),
                    L'\0');
  if (!made.empty())
    MultiByteToWideChar(CP_UTF8, 0, text.data(), size, &made[0], static_cast<int>(made.size()));
  return made;
}

std::string narrow(const std::wstring &text) {
  const int size = static_cast<int>(text.size());
  const int bytes =
      size ? WideCharToMultiByte(CP_UTF8, 0, text.data(), size, nullptr, 0, nullptr, nullptr) : 0;
  std::string made(static_cast<size_t>(bytes), '\0');
  if (bytes)
    WideCharToMultiByte(CP_UTF8, 0, text.data(), size, &made[0], bytes, nullptr, nullptr);
  return made;
}

std::string said_of(DWORD code) {
  wchar_t *words = nullptr;
  const DWORD flags = FORMAT_MESSAGE_ALLOCATE_BUFFER | FORMAT_MESSAGE_FROM_SYSTEM |
                      FORMAT_MESSAGE_IGNORE_INSERTS;
  const DWORD size =
      FormatMessageW(flags, nullptr, code, 0, reinterpret_cast<wchar_t *>(&words), 0, nullptr);
  std::string text = size ? narrow(std::wstring(words, size)) : "";
  LocalFree(words);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == '.'))
    text.pop_back();
  return text.empty() ? "error " + std::to_string(code) : text;
}

namespace {

constexpr size_t kMaxMemory = 16;  // handles in one record
constexpr size_t kCount = 4, kHandle = 8;
// The longest record: the tag, a message, and one byte that shows that there was more.
constexpr size_t kRoom = kCount + kMaxMemory * kHandle + 4 + kMaxBody + 1;
constexpr DWORD kBusyMs = 10;
// Paths from this length on are passed on in the form that has no limit.
constexpr size_t kLongFrom = 240;
// The group that owns what an administrator makes with all rights.
constexpr const char *kAdministrators = "S-1-5-32-544";
// What is to be done where the system keeps host and daemon apart.
constexpr const char *kSameUser =
    "start your own, or where both programs are yours, start either both as administrator or "
    "neither";

// A path for a call of Windows, however long it is.
std::wstring wide_path(const std::string &path) {
  if (path.size() < kLongFrom) return wide(path);
  const bool share = path.compare(0, 2, "\\\\") == 0;
  if (share && path.compare(0, 4, "\\\\?\\") == 0) return wide(path);
  return wide(share ? "\\\\?\\UNC" + path.substr(1) : "\\\\?\\" + path);
}

std::string small_letters(const std::string &text) {
  std::wstring letters = wide(text);
  std::wstring made = letters;
  const int size = static_cast<int>(letters.size());
  // In the way in which paths are compared: letter by letter, in no language.
  if (size)
    LCMapStringW(LOCALE_INVARIANT, LCMAP_LOWERCASE, letters.data(), size, &made[0], size);
  return narrow(made);
}

// ---------------------------------------------------------------------------------------------
// Users

// A security identifier as it is written, S-1-5-21-...; "" where there is none.
std::string written(PSID sid) {
  wchar_t *text = nullptr;
  if (!sid || !ConvertSidToStringSidW(sid, &text)) return "";
  const std::string made = narrow(text);
  LocalFree(text);
  return made;
}

// The user whom a process acts for; "" where the system does not say.
std::string user_of(HANDLE process) {
  HANDLE token = nullptr;
  if (!OpenProcessToken(process, TOKEN_QUERY, &token)) return "";
  const Fd closes = owned(token);
  DWORD size = 0;
  GetTokenInformation(token, TokenUser, nullptr, 0, &size);
  std::vector<uint64_t> found(size / sizeof(uint64_t) + 1);  // aligned as the structure is
  if (!GetTokenInformation(token, TokenUser, found.data(), size, &size)) return "";
  return written(reinterpret_cast<TOKEN_USER *>(found.data())->User.Sid);
}

std::string this_user() { return user_of(GetCurrentProcess()); }

std::string owner_of(const std::string &path) {
  PSID owner = nullptr;
  PSECURITY_DESCRIPTOR descriptor = nullptr;
  std::wstring name = wide_path(path);
  if (GetNamedSecurityInfoW(&name[0], SE_FILE_OBJECT, OWNER_SECURITY_INFORMATION, &owner, nullptr,
                            nullptr, nullptr, &descriptor) != ERROR_SUCCESS)
    return "";
  const std::string text = written(owner);
  LocalFree(descriptor);
  return text;
}

std::string pipe_name(const std::string &path) {
  std::string address = path;
  for (char &c : address)
    if (c == '/') c = '\\';
  return "\\\\.\\pipe\\mattebridge-" + this_user() + "-" +
         sha256_hex(small_letters(address)).substr(0, 32);
}

// ---------------------------------------------------------------------------------------------
// Reading and writing

struct Moved {
  DWORD bytes, code;
};

// One read or write that may be under way: its state, its event, and its memory.
class Transfer {
 public:
  explicit Transfer(HANDLE pipe) : pipe_(pipe) {
    event_ = owned(CreateEventW(nullptr, TRUE, FALSE, nullptr));
  }
  Transfer(const Transfer &) = delete;
  ~Transfer() {
    if (!pending_) return;
    DWORD bytes = 0;
    CancelIoEx(pipe_, &state_);
    GetOverlappedResult(pipe_, &state_, &bytes, TRUE);
  }

  bool pending() const { return pending_; }
  HANDLE event() const { return handle_of(event_); }
  const std::string &buffer() const { return buffer_; }

  // Begins; false where it ended at once, with nothing done.
  bool read(size_t room) {
    buffer_.resize(room);
    prepare();
    return begun(ReadFile(pipe_, &buffer_[0], static_cast<DWORD>(room), nullptr, &state_));
  }
  bool write(std::string data) {
    buffer_ = std::move(data);
    prepare();
    const DWORD size = static_cast<DWORD>(buffer_.size());
    return begun(WriteFile(pipe_, buffer_.data(), size, nullptr, &state_));
  }

  // What has come of it; nothing while it is under way.
  std::optional<Moved> result() {
    DWORD bytes = 0;
    const DWORD code = GetOverlappedResult(pipe_, &state_, &bytes, FALSE) ? 0 : GetLastError();
    if (code == ERROR_IO_INCOMPLETE) return std::nullopt;
    pending_ = false;
    return Moved{bytes, code};
  }

 private:
  void prepare() {
    state_ = {};
    state_.hEvent = event();
    ResetEvent(event());
  }

  bool begun(BOOL done) {
    const DWORD code = done ? 0 : GetLastError();
    pending_ = code == 0 || code == ERROR_IO_PENDING || code == ERROR_MORE_DATA;
    return pending_;
  }

  HANDLE pipe_;
  Fd event_;
  OVERLAPPED state_{};
  std::string buffer_;
  bool pending_ = false;
};

uint64_t number_at(const std::string &bytes, size_t at, size_t size) {
  uint64_t value = 0;
  std::memcpy(&value, bytes.data() + at, size);  // Windows is little-endian
  return value;
}

// Takes a record apart. Its handles are this process's from now on.
void take_apart(const std::string &bytes, size_t limit, Record &record) {
  const uint64_t count = bytes.size() < kCount ? kMaxMemory + 1 : number_at(bytes, 0, kCount);
  if (count > kMaxMemory || kCount + count * kHandle > bytes.size()) {
    record.cut = true;
    record.data = bytes.empty() ? std::string(1, '\0') : bytes;  // not the end
    return;
  }
  for (size_t index = 0; index < count; ++index)
    record.memory.emplace_back(
        static_cast<std::intptr_t>(number_at(bytes, kCount + index * kHandle, kHandle)));
  record.data = bytes.substr(kCount + count * kHandle);
  record.cut = record.cut || record.data.empty() || record.data.size() > limit;
  if (record.data.empty()) record.data.assign(1, '\0');
}

}  // namespace

struct Connection::State {
  State(Fd opened, Fd its_process)
      : process(std::move(its_process)), pipe(std::move(opened)), reads(handle_of(pipe)),
        writes(handle_of(pipe)) {}

  // Sees to it that a read is under way; false at the end.
  bool reading() {
    if (!ended && !reads.pending() && !reads.read(kRoom)) ended = true;
    return !ended;
  }

  // Whether what a read came to is the end; the read of a thread that has ended is none.
  bool is_end(const Moved &moved) {
    const bool good = moved.code == 0 || moved.code == ERROR_MORE_DATA;
    ended = !good && moved.code != ERROR_OPERATION_ABORTED;
    return ended;
  }

  Fd process;  // the daemon's: kept open, so that its number stays its own
  Fd pipe;
  Transfer reads, writes;
  bool ended = false;
};

Connection::Connection(std::unique_ptr<State> state) : state_(std::move(state)) {}
Connection::Connection(Connection &&other) noexcept = default;
Connection::~Connection() = default;

Fd &Fd::operator=(Fd &&other) noexcept {
  std::swap(number_, other.number_);
  return *this;
}

Fd::~Fd() {
  if (number_ != -1 && number_ != 0) CloseHandle(handle_of(*this));
}

std::intptr_t Fd::release() { return std::exchange(number_, -1); }

Map::Map(const Fd &memory, int64_t bytes) {
  const auto size = static_cast<size_t>(bytes);
  void *data = MapViewOfFile(handle_of(memory), FILE_MAP_READ | FILE_MAP_WRITE, 0, 0, size);
  if (!data && GetLastError() == ERROR_NOT_ENOUGH_MEMORY)
    throw Failure("E_OOM", "the frame's shared memory could not be mapped: close other programs");
  MEMORY_BASIC_INFORMATION region{};
  const bool good = data && bytes >= 64 && VirtualQuery(data, &region, sizeof region) &&
                    region.RegionSize >= size && region.State == MEM_COMMIT &&
                    region.Type == MEM_MAPPED;
  if (!good) {
    if (data) UnmapViewOfFile(data);
    throw Failure("E_GEOMETRY",
                  "the daemon sent memory that is too small or not shared: "
                  "install the same version of daemon and plugin");
  }
  data_ = static_cast<uint8_t *>(data);
  bytes_ = bytes;
}

Map &Map::operator=(Map &&other) noexcept {
  Map old(std::move(*this));
  swap(other);
  return *this;
}

Map::~Map() {
  if (data_) UnmapViewOfFile(data_);
}

void Map::swap(Map &other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
}

int process_id() { return static_cast<int>(GetCurrentProcessId()); }

std::string random_bytes(size_t count) {
  std::string bytes(count, '\0');
  if (BCryptGenRandom(nullptr, reinterpret_cast<UCHAR *>(&bytes[0]), static_cast<ULONG>(count),
                      BCRYPT_USE_SYSTEM_PREFERRED_RNG) != 0)
    throw Failure("E_INTERNAL", "the system gives no random numbers");
  return bytes;
}

std::string environment(const char *name) {
  const std::wstring wanted = wide(name);
  for (DWORD size = 0;;) {
    std::wstring value(size, L'\0');
    const DWORD found = GetEnvironmentVariableW(wanted.c_str(), size ? &value[0] : nullptr, size);
    if (found == 0) return "";
    if (found < size) return narrow(value.substr(0, found));
    size = found;
  }
}

// ---------------------------------------------------------------------------------------------
// Settings and programs

std::string settings_folder() {
  const std::string roaming = environment("APPDATA");
  if (is_absolute(roaming)) return roaming + "\\mattebridge";
  return environment("USERPROFILE") + "\\AppData\\Roaming\\mattebridge";
}

// Whom the user's folder is open to is Windows' own matter, as for the Python half.
std::string read_own_file(const std::string &path, size_t limit) {
  const DWORD share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
  HANDLE opened = CreateFileW(wide_path(tidy(path)).c_str(), GENERIC_READ, share, nullptr,
                              OPEN_EXISTING, 0, nullptr);
  if (opened == INVALID_HANDLE_VALUE) return "";
  const Fd file = owned(opened);
  std::string text(limit, '\0');
  DWORD got = 0;
  if (!ReadFile(opened, &text[0], static_cast<DWORD>(limit), &got, nullptr)) return "";
  return got < limit ? text.substr(0, got) : "";
}

bool can_run(const std::string &path) {
  const DWORD found = GetFileAttributesW(wide_path(tidy(path)).c_str());
  return found != INVALID_FILE_ATTRIBUTES && !(found & FILE_ATTRIBUTE_DIRECTORY);
}

// In the folders of PATH alone: not in those of the host and of the documents.
std::string find_command(const std::string &name) {
  const std::string folders = environment("PATH");
  for (size_t at = 0; at < folders.size();) {
    const size_t end = std::min(folders.find(';', at), folders.size());
    const std::string path = folders.substr(at, end - at) + "\\" + name + ".exe";
    if (is_absolute(path) && can_run(path)) return path;
    at = end + 1;
  }
  return "";
}

// ---------------------------------------------------------------------------------------------
// The runtime folder

const size_t kLongestPath = 32000;  // the pipe's name has a digest of it; what Windows takes at all

std::string runtime_root() {
  std::string local = environment("LOCALAPPDATA");
  if (!is_absolute(local)) {
    const std::string home = environment("USERPROFILE");
    local = (is_absolute(home) ? home : environment("HOMEDRIVE") + environment("HOMEPATH")) +
            "\\AppData\\Local";
  }
  if (!is_absolute(local))
    throw Failure("E_UNSAFE_RUNTIME",
                  "LOCALAPPDATA and USERPROFILE name no folder: set MATTEBRIDGE_RUNTIME_DIR to the "
                  "daemon's folder");
  return local + "\\mattebridge\\run";
}

bool is_absolute(const std::string &path) {
  const auto separates = [&](size_t at) { return path[at] == '\\' || path[at] == '/'; };
  if (path.size() < 3) return false;
  const char drive = static_cast<char>(path[0] | 0x20);
  if (drive >= 'a' && drive <= 'z' && path[1] == ':') return separates(2);
  return separates(0) && separates(1);
}

std::string tidy(const std::string &path) {
  std::string parts, clean;
  for (const char c : path) parts += c == '/' ? '\\' : c;
  const size_t root = parts.compare(0, 2, "\\\\") == 0 ? 2 : 0;
  clean = parts.substr(0, root);
  for (size_t at = root; at < parts.size();) {
    const size_t end = std::min(parts.find('\\', at), parts.size());
    const std::string part = parts.substr(at, end - at);
    if (!part.empty() && part != ".") clean += (clean.size() > root ? "\\" : "") + part;
    at = end + 1;
  }
  return clean.size() == 2 && clean[1] == ':' ? clean + "\\" : clean;
}

void check_folder(const std::string &folder) {
  const DWORD found = GetFileAttributesW(wide_path(folder).c_str());
  if (found == INVALID_FILE_ATTRIBUTES) {
    const DWORD code = GetLastError();
    if (code == ERROR_FILE_NOT_FOUND || code == ERROR_PATH_NOT_FOUND) throw no_daemon(folder);
    throw Failure("E_UNSAFE_RUNTIME", "cannot check " + folder + ": " + said_of(code));
  }
  if (!(found & FILE_ATTRIBUTE_DIRECTORY) || (found & FILE_ATTRIBUTE_REPARSE_POINT))
    throw Failure("E_UNSAFE_RUNTIME",
                  folder + " is not a folder (a link?): remove it and start again");
  const std::string owner = owner_of(folder);
  if (owner != this_user() && owner != kAdministrators)
    throw Failure("E_UNSAFE_RUNTIME", folder + " belongs to user " + owner +
                                          ": set MATTEBRIDGE_RUNTIME_DIR to a folder of your own");
}

std::string control_path(const std::string &address, const std::string &folder) {
  const std::string path = folder + "\\ctl";
  return address == pipe_name(path) ? path : "";
}

// ---------------------------------------------------------------------------------------------
// Connections

Connection connect_to(const std::string &path, const std::string &folder, bool,
                      const Watch &watch) {
  const std::wstring name = wide(pipe_name(path));
  Fd pipe;
  for (;;) {
    watch.check();
    // SECURITY_SQOS_PRESENT with no level beside it: the daemon may not act as this user.
    pipe = owned(CreateFileW(name.c_str(), GENERIC_READ | GENERIC_WRITE, 0, nullptr, OPEN_EXISTING,
                             FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT, nullptr));
    if (pipe.number() != -1) break;
    const DWORD code = GetLastError();
    if (code == ERROR_FILE_NOT_FOUND) throw no_daemon(folder);
    if (code == ERROR_ACCESS_DENIED)
      throw Failure("E_UID",
                    "the daemon in " + folder + " does not let this program in: " + kSameUser);
    if (code != ERROR_PIPE_BUSY)
      throw Failure("E_CONNECTION",
                    "cannot reach the daemon in " + folder + ": " + said_of(code));
    watch.pause(kBusyMs / 1000.0);  // others are being connected first
  }
  DWORD mode = PIPE_READMODE_MESSAGE;
  ULONG number = 0;
  if (!SetNamedPipeHandleState(handle_of(pipe), &mode, nullptr, nullptr))
    throw HungUp("the daemon closed the connection");
  Fd process;
  if (GetNamedPipeServerProcessId(handle_of(pipe), &number))
    process = owned(
        OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION | SYNCHRONIZE, FALSE, number));
  const std::string user = user_of(handle_of(process));
  if (user.empty() || user != this_user())
    throw Failure("E_UID", "the daemon in " + folder +
                               " belongs to " +
                               (user.empty() ? "a user whom the system does not name here"
                                             : "user " + user) +
                               ", not to you: " + kSameUser);
  return Connection(std::make_unique<Connection::State>(std::move(pipe), std::move(process)));
}

bool receive_record(const Connection &connection, size_t limit, Record &record) {
  Connection::State &state = connection.state();
  while (state.reading()) {
    const std::optional<Moved> moved = state.reads.result();
    if (!moved) return false;
    if (state.is_end(*moved)) break;
    if (moved->code == ERROR_OPERATION_ABORTED) continue;
    record.cut = moved->code == ERROR_MORE_DATA;
    take_apart(state.reads.buffer().substr(0, moved->bytes), limit, record);
    return true;
  }
  return true;
}

bool send_record(const Connection &connection, const std::string &data) {
  Connection::State &state = connection.state();
  for (;;) {
    if (!state.writes.pending() && !state.writes.write(std::string(kCount, '\0') + data)) break;
    const std::optional<Moved> moved = state.writes.result();
    if (!moved) return false;
    if (moved->code == 0) return true;
    if (moved->code != ERROR_OPERATION_ABORTED) break;
  }
  throw HungUp("the daemon closed the connection");
}

bool hung_up(const Connection &door) {
  Connection::State &state = door.state();
  while (state.reading()) {
    const std::optional<Moved> moved = state.reads.result();
    if (!moved) return false;
    if (moved->code != ERROR_OPERATION_ABORTED) state.ended = true;
  }
  return true;
}

void wait_for(const Connection *a, const Connection *b, bool a_write, int timeout_ms) {
  HANDLE events[3];
  DWORD count = 0;
  for (const Connection *each : {a, b}) {
    if (!each) continue;
    if (!each->state().reading()) return;
    events[count++] = each->state().reads.event();
  }
  if (a && a_write && a->state().writes.pending()) events[count++] = a->state().writes.event();
  WaitForMultipleObjects(count, events, FALSE, static_cast<DWORD>(timeout_ms));
}

// No process of Windows is forked.
void close_after_fork(const Connection &) {}
void forget_after_fork(const Connection &) {}
void on_fork(void (*)()) {}

}  // namespace mb::os
