// Colour management of OpenFX 1.5: the host says which colour space each clip is in.
//
// In the native styles (basic, core, full) the names are those of the ACES studio config, which the
// daemon's built-in config has; in the OCIO style they are those of the host's own config. A host
// that offers none of it, a name that stands for many spaces (`ofx_scene_linear`), and Nuke, which
// crashed on these properties, leave the choice to the knob "Input colour".
#pragma once

#include "host.h"

namespace mb {

// Says that this plugin takes any space, where the host manages colours.
void describe_colour(OfxPropertySetHandle descriptor);

// Asks for Background in Source's space, and for AlphaHint as it is; nothing without management.
void prefer_colours(const Instance &node, OfxPropertySetHandle out);

// The output is in Source's space, or without one where it is a matte.
OfxStatus output_colourspace(OfxImageEffectHandle effect, OfxPropertySetHandle out);

// The colours of a node's inputs, by the host's word.
struct Colours {
  std::string space;   // as a request names it; empty: the knob says it
  std::string config;  // of the host, in the OCIO style: where it is
};

// Throws Failure where Background, which has to be in Source's space, is in another one.
Colours colours_of(const Instance &node, bool with_background);

}  // namespace mb
