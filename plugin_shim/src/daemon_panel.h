// What a node's panel says of the daemon, and its button that starts one. Both wait at most a few
// seconds, and are called for a click of the artist alone.
#pragma once

#include <string>

namespace mb {

// Which daemon runs in this folder, as bridge/mattebridge/hosts/panel_line.py says it; or why none
// answers.
std::string daemon_line(const std::string &folder);

// Starts the configured daemon for this folder where none runs; then `daemon_line`, or why there is
// none.
std::string start_daemon(const std::string &folder);

// Lets go of a start that is under way, before the plugin is unloaded.
void forget_start();

}  // namespace mb
