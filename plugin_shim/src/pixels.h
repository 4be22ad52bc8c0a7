// Copies between a host's images (bottom-up, any bounds, any row bytes) and the planes of an arena
// (top-down).
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "ofx_abi.h"
#include "slots.h"

namespace mb {

// An image of the host: `data` is the pixel at (x1, y1), the lower left; rows are bottom-up.
struct Image {
  uint8_t *data = nullptr;
  OfxRectI bounds{0, 0, 0, 0};
  int64_t row_bytes = 0;
  int components = 0;
  Sample sample = Sample::Float;

  int pixel_bytes() const { return components * sample_bytes(sample); }
  uint8_t *pixel(int x, int y) const {
    return data + (int64_t{y} - bounds.y1) * row_bytes + (int64_t{x} - bounds.x1) * pixel_bytes();
  }
};

// How the samples of an image become those of a plane.
enum class Pick {
  Whole,      // all components, as they are
  Colour,     // the first three
  Covered,    // RGBA with alpha 1, whatever it was
  Alpha,      // the last component alone
  Red,        // the first alone
  Luminance,  // Rec. 709, as float
};

enum class Output { Premultiplied, Straight, Matte };

// Called every few megabytes of copying; throws when the host has aborted the frame.
using AbortCheck = std::function<void()>;

bool empty(const OfxRectI &rectangle);
bool contains(const OfxRectI &outer, const OfxRectI &inner);
OfxRectI intersection(const OfxRectI &a, const OfxRectI &b);
std::string text_of(const OfxRectI &rectangle);

// The plane's channels and sample type for an image taken in this way.
Plane plane_for(const char *role, const Image &image, Pick pick);

// Copies `rectangle` of the image into the rows of a plane; 0 outside the image.
void copy_in(const Image &image, const OfxRectI &rectangle, Pick pick, const Plane &plane,
             uint8_t *rows, const AbortCheck &check);

// The daemon's result for `rectangle`, in the planes of an output mode.
struct Result {
  Output mode = Output::Premultiplied;
  OfxRectI rectangle{0, 0, 0, 0};
  const Plane *first = nullptr, *second = nullptr;  // premultiplied; foreground, alpha; alpha
  const uint8_t *arena = nullptr;
};

// Writes a window of the output image from a result: 0 outside the result's rectangle.
void copy_out(const Result &result, const OfxRectI &window, const Image &output,
              const AbortCheck &check);

// Writes a window from another image of the host (converted), 0 outside that image.
void copy_across(const Image &image, const OfxRectI &window, const Image &output);
void clear(const OfxRectI &window, const Image &output);

bool all_zero(const Image &image);
// Whether an RGBA image has a picture in its colours and the same alpha all over.
bool alpha_is_empty(const Image &image);

float from_half(uint16_t bits);
uint16_t to_half(float value);

}  // namespace mb
