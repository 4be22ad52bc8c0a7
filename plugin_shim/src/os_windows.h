// What the files for Windows share.
#pragma once

#ifndef NOMINMAX
#define NOMINMAX
#endif
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

#include <string>

#include "os.h"

namespace mb::os {

inline HANDLE handle_of(const Fd &fd) { return reinterpret_cast<HANDLE>(fd.number()); }
inline Fd owned(HANDLE handle) { return Fd(reinterpret_cast<std::intptr_t>(handle)); }

std::wstring wide(const std::string &text);
std::string narrow(const std::wstring &text);
// What Windows says of an error.
std::string said_of(DWORD code);

}  // namespace mb::os
