// What a node's panel says of the daemon, and its button that starts one. A click of the artist waits
// at most a few seconds, a glance at most a twentieth of one; never called from a render.
#pragma once

#include <string>

namespace mb {

// Which daemon runs in this folder, as bridge/mattebridge/hosts/panel_line.py says it; or why none
// answers.
std::string daemon_line(const std::string &folder);

// The same, of a daemon that answers at once.
std::string daemon_glance(const std::string &folder);

// Starts the configured daemon for this folder where none runs; then `daemon_line`, or why there is
// none.
std::string start_daemon(const std::string &folder);

// Lets go of a start that is under way, before the plugin is unloaded.
void forget_start();

}  // namespace mb
