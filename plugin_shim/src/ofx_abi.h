// The part of the OpenFX C interface that this plugin uses, written from the specification.
//
// OpenFX is a standard of the OpenFX project, an Academy Software Foundation project
// (https://openfx.readthedocs.io). Names, field order and numbers are those of the standard; the
// text is not. Strings are not declared here: a macro kXxx of the standard has the value "Xxx", and
// the few exceptions are noted where they are used.
#pragma once

#include <cstddef>

#if defined(_WIN32)
#define MB_OFX_EXPORT extern "C" __declspec(dllexport)
#else
#define MB_OFX_EXPORT extern "C" __attribute__((visibility("default")))
#endif

extern "C" {

using OfxStatus = int;
using OfxTime = double;
using OfxPropertySetHandle = struct OfxPropertySetStruct *;
using OfxImageEffectHandle = struct OfxImageEffectStruct *;
using OfxImageClipHandle = struct OfxImageClipStruct *;
using OfxImageMemoryHandle = struct OfxImageMemoryStruct *;
using OfxParamSetHandle = struct OfxParamSetStruct *;
using OfxParamHandle = struct OfxParamStruct *;

enum : OfxStatus {
  kOfxStatOK = 0,
  kOfxStatFailed = 1,
  kOfxStatErrMissingHostFeature = 4,
  kOfxStatErrMemory = 8,
  kOfxStatErrBadHandle = 9,
  kOfxStatReplyDefault = 14,
};

struct OfxRectI {
  int x1, y1, x2, y2;
};
struct OfxRectD {
  double x1, y1, x2, y2;
};
struct OfxRangeD {
  double min, max;
};

struct OfxHost {
  OfxPropertySetHandle host;
  const void *(*fetchSuite)(OfxPropertySetHandle, const char *name, int version);
};

struct OfxPlugin {
  const char *pluginApi;
  int apiVersion;
  const char *pluginIdentifier;
  unsigned pluginVersionMajor, pluginVersionMinor;
  void (*setHost)(OfxHost *);
  OfxStatus (*mainEntry)(const char *action, const void *handle, OfxPropertySetHandle inArgs,
                         OfxPropertySetHandle outArgs);
};

struct OfxPropertySuiteV1 {
  OfxStatus (*propSetPointer)(OfxPropertySetHandle, const char *, int, void *);
  OfxStatus (*propSetString)(OfxPropertySetHandle, const char *, int, const char *);
  OfxStatus (*propSetDouble)(OfxPropertySetHandle, const char *, int, double);
  OfxStatus (*propSetInt)(OfxPropertySetHandle, const char *, int, int);
  OfxStatus (*propSetPointerN)(OfxPropertySetHandle, const char *, int, void *const *);
  OfxStatus (*propSetStringN)(OfxPropertySetHandle, const char *, int, const char *const *);
  OfxStatus (*propSetDoubleN)(OfxPropertySetHandle, const char *, int, const double *);
  OfxStatus (*propSetIntN)(OfxPropertySetHandle, const char *, int, const int *);
  OfxStatus (*propGetPointer)(OfxPropertySetHandle, const char *, int, void **);
  OfxStatus (*propGetString)(OfxPropertySetHandle, const char *, int, char **);
  OfxStatus (*propGetDouble)(OfxPropertySetHandle, const char *, int, double *);
  OfxStatus (*propGetInt)(OfxPropertySetHandle, const char *, int, int *);
  OfxStatus (*propGetPointerN)(OfxPropertySetHandle, const char *, int, void **);
  OfxStatus (*propGetStringN)(OfxPropertySetHandle, const char *, int, char **);
  OfxStatus (*propGetDoubleN)(OfxPropertySetHandle, const char *, int, double *);
  OfxStatus (*propGetIntN)(OfxPropertySetHandle, const char *, int, int *);
  OfxStatus (*propReset)(OfxPropertySetHandle, const char *);
  OfxStatus (*propGetDimension)(OfxPropertySetHandle, const char *, int *);
};

struct OfxImageEffectSuiteV1 {
  OfxStatus (*getPropertySet)(OfxImageEffectHandle, OfxPropertySetHandle *);
  OfxStatus (*getParamSet)(OfxImageEffectHandle, OfxParamSetHandle *);
  OfxStatus (*clipDefine)(OfxImageEffectHandle, const char *, OfxPropertySetHandle *);
  OfxStatus (*clipGetHandle)(OfxImageEffectHandle, const char *, OfxImageClipHandle *,
                             OfxPropertySetHandle *);
  OfxStatus (*clipGetPropertySet)(OfxImageClipHandle, OfxPropertySetHandle *);
  OfxStatus (*clipGetImage)(OfxImageClipHandle, OfxTime, const OfxRectD *, OfxPropertySetHandle *);
  OfxStatus (*clipReleaseImage)(OfxPropertySetHandle);
  OfxStatus (*clipGetRegionOfDefinition)(OfxImageClipHandle, OfxTime, OfxRectD *);
  int (*abort)(OfxImageEffectHandle);
  OfxStatus (*imageMemoryAlloc)(OfxImageEffectHandle, size_t, OfxImageMemoryHandle *);
  OfxStatus (*imageMemoryFree)(OfxImageMemoryHandle);
  OfxStatus (*imageMemoryLock)(OfxImageMemoryHandle, void **);
  OfxStatus (*imageMemoryUnlock)(OfxImageMemoryHandle);
};

struct OfxParameterSuiteV1 {
  OfxStatus (*paramDefine)(OfxParamSetHandle, const char *type, const char *name,
                           OfxPropertySetHandle *);
  OfxStatus (*paramGetHandle)(OfxParamSetHandle, const char *, OfxParamHandle *,
                              OfxPropertySetHandle *);
  OfxStatus (*paramSetGetPropertySet)(OfxParamSetHandle, OfxPropertySetHandle *);
  OfxStatus (*paramGetPropertySet)(OfxParamHandle, OfxPropertySetHandle *);
  OfxStatus (*paramGetValue)(OfxParamHandle, ...);
  OfxStatus (*paramGetValueAtTime)(OfxParamHandle, OfxTime, ...);
  OfxStatus (*paramGetDerivative)(OfxParamHandle, OfxTime, ...);
  OfxStatus (*paramGetIntegral)(OfxParamHandle, OfxTime, OfxTime, ...);
  OfxStatus (*paramSetValue)(OfxParamHandle, ...);
  OfxStatus (*paramSetValueAtTime)(OfxParamHandle, OfxTime, ...);
  OfxStatus (*paramGetNumKeys)(OfxParamHandle, unsigned *);
  OfxStatus (*paramGetKeyTime)(OfxParamHandle, unsigned, OfxTime *);
  OfxStatus (*paramGetKeyIndex)(OfxParamHandle, OfxTime, int, int *);
  OfxStatus (*paramDeleteKey)(OfxParamHandle, OfxTime);
  OfxStatus (*paramDeleteAllKeys)(OfxParamHandle);
  OfxStatus (*paramCopy)(OfxParamHandle, OfxParamHandle, OfxTime, const OfxRangeD *);
  OfxStatus (*paramEditBegin)(OfxParamSetHandle, const char *);
  OfxStatus (*paramEditEnd)(OfxParamSetHandle);
};

struct OfxMessageSuiteV1 {
  OfxStatus (*message)(void *, const char *type, const char *id, const char *format, ...);
};
struct OfxMessageSuiteV2 {
  OfxStatus (*message)(void *, const char *type, const char *id, const char *format, ...);
  OfxStatus (*setPersistentMessage)(void *, const char *type, const char *id, const char *format,
                                    ...);
  OfxStatus (*clearPersistentMessage)(void *);
};

}  // extern "C"

// The layout that the specification's own headers give on every 64-bit system.
static_assert(sizeof(void *) == 8, "OpenFX hosts are 64-bit");
static_assert(sizeof(OfxHost) == 16 && offsetof(OfxHost, fetchSuite) == 8);
static_assert(sizeof(OfxPlugin) == 48 && offsetof(OfxPlugin, apiVersion) == 8);
static_assert(offsetof(OfxPlugin, pluginIdentifier) == 16);
static_assert(offsetof(OfxPlugin, pluginVersionMajor) == 24);
static_assert(offsetof(OfxPlugin, pluginVersionMinor) == 28);
static_assert(offsetof(OfxPlugin, setHost) == 32 && offsetof(OfxPlugin, mainEntry) == 40);
static_assert(sizeof(OfxRectI) == 16 && offsetof(OfxRectI, y2) == 12);
static_assert(sizeof(OfxRectD) == 32 && offsetof(OfxRectD, y2) == 24);
static_assert(sizeof(OfxRangeD) == 16);
static_assert(sizeof(OfxPropertySuiteV1) == 144);
static_assert(offsetof(OfxPropertySuiteV1, propGetPointer) == 64);
static_assert(offsetof(OfxPropertySuiteV1, propGetIntN) == 120);
static_assert(offsetof(OfxPropertySuiteV1, propGetDimension) == 136);
static_assert(sizeof(OfxImageEffectSuiteV1) == 104);
static_assert(offsetof(OfxImageEffectSuiteV1, clipGetImage) == 40);
static_assert(offsetof(OfxImageEffectSuiteV1, abort) == 64);
static_assert(sizeof(OfxParameterSuiteV1) == 144);
static_assert(offsetof(OfxParameterSuiteV1, paramGetValueAtTime) == 40);
static_assert(offsetof(OfxParameterSuiteV1, paramSetValue) == 64);
static_assert(sizeof(OfxMessageSuiteV1) == 8 && sizeof(OfxMessageSuiteV2) == 24);
