// One frame of one node.
#pragma once

#include "host.h"

namespace mb {

OfxStatus render_action(OfxImageEffectHandle effect, OfxPropertySetHandle in);

}  // namespace mb
