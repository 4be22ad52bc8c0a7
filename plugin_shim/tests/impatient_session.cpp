// The session pool of a plugin to which a session is idle after a second: a test does not wait for
// a minute.
#define MATTEBRIDGE_IDLE_S 1
#include "../src/session.cpp"
