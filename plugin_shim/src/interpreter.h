// Which program runs the daemon, and without which variables: the C++ twin of
// bridge/mattebridge/interpreter.py.
#pragma once

#include <string>
#include <vector>

namespace mb {

// What a host sets for itself and a daemon must not see.
inline constexpr const char *kHostVariables[] = {
    "PYTHONHOME",        "PYTHONPATH",      "PYTHONSTARTUP",
    "PYTHONEXECUTABLE",  "LD_LIBRARY_PATH", "LD_PRELOAD",
    "DYLD_LIBRARY_PATH", "QT_PLUGIN_PATH",  "QT_QPA_PLATFORM_PLUGIN_PATH"};

// The start of a command line that runs `mattebridge` in the daemon's environment: the interpreter
// that MATTEBRIDGE_DAEMON_PYTHON names, else the one that `mattebridge install` or `serve` wrote
// down, else the command on PATH. Throws Failure where there is none, or where another user could
// have written it down.
std::vector<std::string> daemon_command();

// The text at "python" in the note, a JSON object; "" where it is not one or has no such text.
std::string noted_python(const std::string &json);

}  // namespace mb
