// Windows: without a window, out of reach of the console's Ctrl-C, with two handles and no other.
#include "os_windows.h"

#include "interpreter.h"
#include "launch.h"

namespace mb::os {
namespace {

constexpr DWORD kShown = 4096;  // bytes at the end of the output that are looked at

bool is_the_hosts(const std::wstring &variable) {
  for (const char *name : kHostVariables) {
    const std::wstring start = wide(std::string(name) + "=");
    const std::wstring found = variable.substr(0, start.size());
    if (CompareStringOrdinal(found.data(), static_cast<int>(found.size()), start.data(),
                             static_cast<int>(start.size()), TRUE) == CSTR_EQUAL)
      return true;
  }
  return false;
}

// The environment without what the host set for itself, as CreateProcess takes it.
std::wstring clean_environment() {
  std::wstring kept;
  wchar_t *all = GetEnvironmentStringsW();
  for (const wchar_t *each = all; each && *each; each += wcslen(each) + 1) {
    if (!is_the_hosts(each)) kept.append(each).push_back(L'\0');
  }
  if (all) FreeEnvironmentStringsW(all);
  kept.push_back(L'\0');
  return kept;
}

// One word of a command line, as CommandLineToArgvW reads it.
std::wstring quoted(const std::string &word) {
  std::wstring made = L"\"";
  size_t slashes = 0;
  for (const wchar_t c : wide(word)) {
    if (c == L'"') made.append(slashes + 1, L'\\');
    slashes = c == L'\\' ? slashes + 1 : 0;
    made += c;
  }
  return made.append(slashes, L'\\') + L'"';
}

Failure cannot_start(const std::string &program) {
  return Failure("E_CONNECTION",
                 "cannot start the daemon with " + program + ": " + said_of(GetLastError()));
}

// A file that is gone when nobody has it open.
Fd nameless_file(const std::string &program) {
  wchar_t folder[MAX_PATH + 1] = L"", name[MAX_PATH + 1] = L"";
  if (!GetTempPathW(MAX_PATH, folder) || !GetTempFileNameW(folder, L"mb", 0, name))
    throw cannot_start(program);
  const DWORD share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
  Fd file = owned(CreateFileW(name, GENERIC_READ | GENERIC_WRITE, share, nullptr, CREATE_ALWAYS,
                              FILE_ATTRIBUTE_TEMPORARY | FILE_FLAG_DELETE_ON_CLOSE, nullptr));
  if (handle_of(file) == INVALID_HANDLE_VALUE) throw cannot_start(program);
  return file;
}

// The same file under a handle that a child can have.
Fd for_the_child(HANDLE handle) {
  HANDLE made = nullptr;
  DuplicateHandle(GetCurrentProcess(), handle, GetCurrentProcess(), &made, 0, TRUE,
                  DUPLICATE_SAME_ACCESS);
  return owned(made);
}

// That a child inherits these handles and no other of the host's.
class Only {
 public:
  explicit Only(std::vector<HANDLE> handles) : handles_(std::move(handles)) {
    SIZE_T size = 0;
    InitializeProcThreadAttributeList(nullptr, 1, 0, &size);
    memory_.resize(size);
    good_ = InitializeProcThreadAttributeList(list(), 1, 0, &size) &&
            UpdateProcThreadAttribute(list(), 0, PROC_THREAD_ATTRIBUTE_HANDLE_LIST, handles_.data(),
                                      handles_.size() * sizeof(HANDLE), nullptr, nullptr);
  }
  Only(const Only &) = delete;
  ~Only() { DeleteProcThreadAttributeList(list()); }
  bool good() const { return good_; }
  LPPROC_THREAD_ATTRIBUTE_LIST list() {
    return reinterpret_cast<LPPROC_THREAD_ATTRIBUTE_LIST>(memory_.data());
  }

 private:
  std::vector<HANDLE> handles_;
  std::vector<char> memory_;
  bool good_ = false;
};

}  // namespace

Launch::Launch(const std::vector<std::string> &command) : output_(nameless_file(command[0])) {
  const Fd nothing =
      owned(CreateFileW(L"NUL", GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE,
                        nullptr, OPEN_EXISTING, 0, nullptr));
  const Fd in = for_the_child(handle_of(nothing)), error = for_the_child(handle_of(output_));
  Only only({handle_of(in), handle_of(error)});
  STARTUPINFOEXW start{};
  start.StartupInfo.cb = sizeof start;
  start.StartupInfo.dwFlags = STARTF_USESTDHANDLES;
  start.StartupInfo.hStdInput = start.StartupInfo.hStdOutput = handle_of(in);
  start.StartupInfo.hStdError = handle_of(error);
  start.lpAttributeList = only.list();
  std::wstring line, environment = clean_environment();
  for (const std::string &word : command) line += (line.empty() ? L"" : L" ") + quoted(word);
  constexpr DWORD kFlags = CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP |
                           CREATE_UNICODE_ENVIRONMENT | EXTENDED_STARTUPINFO_PRESENT;
  PROCESS_INFORMATION made{};
  if (!only.good() || !CreateProcessW(wide(command[0]).c_str(), &line[0], nullptr, nullptr, TRUE,
                                      kFlags, &environment[0], nullptr, &start.StartupInfo, &made))
    throw cannot_start(command[0]);
  CloseHandle(made.hThread);
  process_ = owned(made.hProcess);
}

std::optional<Ended> Launch::ended() const {
  DWORD status = 0;
  if (WaitForSingleObject(handle_of(process_), 0) != WAIT_OBJECT_0 ||
      !GetExitCodeProcess(handle_of(process_), &status))
    return std::nullopt;
  std::string text(kShown, '\0');
  LARGE_INTEGER size{};
  GetFileSizeEx(handle_of(output_), &size);
  OVERLAPPED place{};
  place.Offset = size.QuadPart > kShown ? static_cast<DWORD>(size.QuadPart - kShown) : 0;
  DWORD got = 0;
  if (!ReadFile(handle_of(output_), &text[0], kShown, &got, &place)) got = 0;
  text.resize(got);
  return Ended{static_cast<int>(status), last_line(text)};
}

}  // namespace mb::os
