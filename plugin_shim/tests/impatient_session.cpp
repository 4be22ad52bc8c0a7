// The session pool with an idle limit of one second instead of a minute, for a test.
#define MATTEBRIDGE_IDLE_S 1
#include "../src/session.cpp"
