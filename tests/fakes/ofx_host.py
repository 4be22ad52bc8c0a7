"""An OpenFX host: loads a compiled plugin with ctypes and renders numpy pictures through it.

It follows the specification where real hosts are lax, and keeps a list of `complaints`: properties
that the standard does not have, wrong types, calls at forbidden times, images that were not given
back. Strings that it returns are overwritten at the thread's next call, as some hosts do. What real
hosts do wrong is a switch: `messages`, `refuse`, `Missing`, `HostImage(...)`.

Handles are numbers that mean nothing outside the host, so a plugin that follows one crashes. The
variadic functions are declared with fixed arguments, which is the same on x86-64 Linux.
"""

# ruff: noqa: N802 - callbacks are named as the standard names them
from __future__ import annotations

import _ctypes
import ctypes
import itertools
import threading
from collections.abc import Iterable
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_double, c_int, c_uint, c_void_p
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Callable, Optional, Union

import numpy as np

OK, FAILED, UNKNOWN, EXISTS, BAD_HANDLE, BAD_INDEX, VALUE, DEFAULT = 0, 1, 3, 6, 9, 10, 11, 14
# The name of the host that most tests play.
NUKE = "uk.co.thefoundry.nuke"
FILTER, GENERAL = "OfxImageEffectContextFilter", "OfxImageEffectContextGeneral"
PREMULTIPLIED, STRAIGHT = "OfxImageAlphaPremultiplied", "OfxImageAlphaUnPremultiplied"
OPAQUE = "OfxImageOpaque"
COMPONENTS = {4: "OfxImageComponentRGBA", 3: "OfxImageComponentRGB", 1: "OfxImageComponentAlpha"}
DEPTHS = {"uint8": "Byte", "uint16": "Short", "float16": "Half", "float32": "Float"}
# The only config of the native styles of colour management.
NATIVE_CONFIG = "ofx-native-v1.5_aces-v1.3_ocio-v2.3"
CANARY = 0xA5
CANARY_BYTES = 64

Window = tuple[int, int, int, int]

# Name: type and number of values (0: any), as the standard lists them for each kind of object.
_LABELS = "OfxPropLabel s1, OfxPropShortLabel s1, OfxPropLongLabel s1"
KNOWN = {
    "effect": f"""{_LABELS}, OfxPropVersion i0, OfxPropVersionLabel s1, OfxPropPluginDescription s1,
        OfxImageEffectPluginPropGrouping s1, OfxImageEffectPropSupportedContexts s0,
        OfxImageEffectPropSupportedPixelDepths s0, OfxImageEffectPluginPropSingleInstance i1,
        OfxImageEffectPluginRenderThreadSafety s1, OfxImageEffectPluginPropHostFrameThreading i1,
        OfxImageEffectPropSupportsMultiResolution i1, OfxImageEffectPropSupportsTiles i1,
        OfxImageEffectPropTemporalClipAccess i1, OfxImageEffectPluginPropFieldRenderTwiceAlways i1,
        OfxImageEffectPropMultipleClipDepths i1, OfxImageEffectPropSupportsMultipleClipPARs i1,
        OfxImageEffectPropClipPreferencesSlaveParam s0,
        OfxImageEffectInstancePropSequentialRender i1, OfxPluginPropFilePath s1,
        OfxImageEffectPropColourManagementStyle s1,
        OfxImageEffectPropColourManagementAvailableConfigs s0""",
    "clip": f"""{_LABELS}, OfxImageEffectPropSupportedComponents s0, OfxImageClipPropOptional i1,
        OfxImageClipPropIsMask i1, OfxImageEffectPropTemporalClipAccess i1,
        OfxImageEffectPropSupportsTiles i1, OfxImageClipPropFieldExtraction s1""",
    "param": f"""OfxPropName s1, {_LABELS}, OfxParamPropType s1, OfxParamPropScriptName s1,
        OfxParamPropHint s1, OfxParamPropParent s1, OfxParamPropSecret i1, OfxParamPropEnabled i1,
        OfxParamPropDataPtr p1""",
    "value": """OfxParamPropAnimates i1, OfxParamPropPersistant i1, OfxParamPropEvaluateOnChange i1,
        OfxParamPropCanUndo i1, OfxParamPropCacheInvalidation s1""",
}
NUMERIC = "OfxParamPropMin, OfxParamPropMax, OfxParamPropDisplayMin, OfxParamPropDisplayMax"
PARAM_TYPES = {
    "Integer": ("i", f"OfxParamPropDefault i1, {NUMERIC.replace(',', ' i1,')} i1"),
    "Double": (
        "d",
        f"OfxParamPropDefault d1, {NUMERIC.replace(',', ' d1,')} d1, OfxParamPropIncrement d1, "
        "OfxParamPropDigits i1, OfxParamPropDoubleType s1",
    ),
    "Boolean": ("i", "OfxParamPropDefault i1"),
    "Choice": ("i", "OfxParamPropDefault i1, OfxParamPropChoiceOption s0"),
    "String": ("s", "OfxParamPropDefault s1, OfxParamPropStringMode s1"),
    "PushButton": ("", ""),
    "Group": ("", "OfxParamPropGroupOpen i1"),
    "Page": ("", "OfxParamPropPageChild s0"),
}
ZERO = {"i": 0, "d": 0.0, "s": "", "p": None}


class PropertySet:
    """Names to lists of values. `schema` None: read-only, made by the host as it is."""

    def __init__(self, schema: Optional[str] = None, **values: Any) -> None:
        self.schema: Optional[dict[str, tuple[str, int]]] = None
        if schema is not None:
            words = [
                entry.split() for entry in schema.replace("\n", " ").split(",") if entry.strip()
            ]
            self.schema = {name: (kind[0], int(kind[1:])) for name, kind in words}
        self.values: dict[str, list[Any]] = {
            name: list(value) if isinstance(value, (list, tuple)) else [value]
            for name, value in values.items()
        }

    def get(self, name: str, otherwise: Any = None) -> Any:
        """The first value."""
        return self.values.get(name, [otherwise])[0]


class Missing(Enum):
    """The ways in which hosts say that an input is not there."""

    UNCONNECTED = "Connected is 0"
    STATUS = "Connected is 1, and the image is refused"
    NULL_IMAGE = "Connected is 1, status OK, no image"
    NULL_DATA = "Connected is 1, an image without pixels"
    BARE = "Connected is not there, an image without pixels (as MLT)"
    BLACK = "Connected is 1, an image of zeros (as Resolve)"


class HostImage:
    """Pixels in a host's memory: bottom-up, padded, between canaries.

    pixels: (H, W, C) top row first, C in 4, 3, 1. origin: x1, y1 of the bounds. negative: rows lie
    top-down in memory and rowBytes is negative. rod: region of definition in pixels, by default the
    bounds; `whole` is what a request by region gets. `changes` overrides or, by None, removes
    properties of the image.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        *,
        origin: tuple[int, int] = (0, 0),
        padding: int = 0,
        negative: bool = False,
        state: Optional[str] = STRAIGHT,
        rod: Optional[Window] = None,
        whole: Optional[HostImage] = None,
        **changes: Any,
    ) -> None:
        height, width, self.channels = pixels.shape
        self.dtype, self.shape = pixels.dtype, pixels.shape
        self.bounds = (origin[0], origin[1], origin[0] + width, origin[1] + height)
        self.negative, self.state, self.whole = negative, state, whole
        self.rod = rod or self.bounds
        self.changes = changes
        line = width * self.channels * pixels.itemsize
        self.row_bytes = line + padding
        self.memory = np.full(height * self.row_bytes + 2 * CANARY_BYTES, CANARY, np.uint8)
        self.rows = self.memory[CANARY_BYTES:-CANARY_BYTES].reshape(height, self.row_bytes)
        self.view()[...] = pixels

    def view(self) -> np.ndarray:
        """The pixels, top row first, as they are in memory."""
        line = self.shape[1] * self.channels * self.dtype.itemsize
        rows = self.rows if self.negative else self.rows[::-1]
        shape = (self.shape[0], self.shape[1], self.channels)
        strides = (rows.strides[0], self.channels * self.dtype.itemsize, self.dtype.itemsize)
        first = rows[:1, :line]
        return np.lib.stride_tricks.as_strided(first.view(self.dtype), shape, strides)

    def pixels(self) -> np.ndarray:
        """A copy of the pixels, top row first."""
        return self.view().copy()

    def canaries_live(self) -> bool:
        """Whether nothing was written around the rows or into their padding."""
        line = self.shape[1] * self.channels * self.dtype.itemsize
        outside = [self.memory[:CANARY_BYTES], self.memory[-CANARY_BYTES:], self.rows[:, line:]]
        return all((part == CANARY).all() for part in outside)

    def properties(self) -> PropertySet:
        """What clipGetImage gives."""
        row = self.shape[0] - 1 if self.negative else 0
        values: dict[str, Any] = {
            "OfxPropType": "OfxTypeImage",
            "OfxImagePropData": self.rows.ctypes.data + row * self.row_bytes,
            "OfxImagePropBounds": self.bounds,
            "OfxImagePropRegionOfDefinition": self.rod,
            "OfxImagePropRowBytes": -self.row_bytes if self.negative else self.row_bytes,
            "OfxImageEffectPropPixelDepth": "OfxBitDepth" + DEPTHS[self.dtype.name],
            "OfxImageEffectPropComponents": COMPONENTS[self.channels],
            "OfxImageEffectPropPreMultiplication": self.state,
            "OfxImageEffectPropRenderScale": (1.0, 1.0),
            "OfxImagePropPixelAspectRatio": 1.0,
            "OfxImagePropField": "OfxFieldNone",
            "OfxImagePropUniqueIdentifier": "",
            **self.changes,
        }
        return PropertySet(**{name: value for name, value in values.items() if value is not None})


def blank(
    height: int, width: int, channels: int = 4, dtype: Any = np.float32, **how: Any
) -> HostImage:
    """An output image full of rubbish, as hosts hand it out."""
    image = HostImage(np.zeros((height, width, channels), dtype), **how)
    image.rows[:, : width * channels * image.dtype.itemsize] = 0x5B
    return image


Content = Union[HostImage, Missing]


@dataclass
class Param:
    """One parameter of a descriptor or an instance."""

    kind: str
    properties: PropertySet
    value: Any = None


@dataclass
class Effect:
    """A descriptor or an instance."""

    context: str
    properties: PropertySet
    params: dict[str, Param] = field(default_factory=dict)
    clips: dict[str, PropertySet] = field(default_factory=dict)
    instance: Optional[Instance] = None


# The suites' functions, in the order of the standard, with the types of their arguments.

_KINDS = {"Pointer": c_void_p, "String": c_char_p, "Double": c_double, "Int": c_int}
_PROPERTY = [
    *[(f"propSet{kind}", [c_void_p, c_char_p, c_int, type_]) for kind, type_ in _KINDS.items()],
    *[(f"propSet{kind}N", [c_void_p, c_char_p, c_int, c_void_p]) for kind in _KINDS],
    *[(f"propGet{kind}", [c_void_p, c_char_p, c_int, c_void_p]) for kind in _KINDS],
    *[(f"propGet{kind}N", [c_void_p, c_char_p, c_int, c_void_p]) for kind in _KINDS],
    ("propReset", [c_void_p, c_char_p]),
    ("propGetDimension", [c_void_p, c_char_p, c_void_p]),
]
_EFFECT = [
    ("getPropertySet", [c_void_p, c_void_p]),
    ("getParamSet", [c_void_p, c_void_p]),
    ("clipDefine", [c_void_p, c_char_p, c_void_p]),
    ("clipGetHandle", [c_void_p, c_char_p, c_void_p, c_void_p]),
    ("clipGetPropertySet", [c_void_p, c_void_p]),
    ("clipGetImage", [c_void_p, c_double, c_void_p, c_void_p]),
    ("clipReleaseImage", [c_void_p]),
    ("clipGetRegionOfDefinition", [c_void_p, c_double, c_void_p]),
    ("abort", [c_void_p]),
    ("imageMemoryAlloc", [c_void_p, ctypes.c_size_t, c_void_p]),
    ("imageMemoryFree", [c_void_p]),
    ("imageMemoryLock", [c_void_p, c_void_p]),
    ("imageMemoryUnlock", [c_void_p]),
]
_PARAMETER = [
    ("paramDefine", [c_void_p, c_char_p, c_char_p, c_void_p]),
    ("paramGetHandle", [c_void_p, c_char_p, c_void_p, c_void_p]),
    ("paramSetGetPropertySet", [c_void_p, c_void_p]),
    ("paramGetPropertySet", [c_void_p, c_void_p]),
    ("paramGetValue", [c_void_p, c_void_p]),
    ("paramGetValueAtTime", [c_void_p, c_double, c_void_p]),
    ("paramGetDerivative", [c_void_p, c_double, c_void_p]),
    ("paramGetIntegral", [c_void_p, c_double, c_double, c_void_p]),
    ("paramSetValue", [c_void_p, c_void_p]),
    ("paramSetValueAtTime", [c_void_p, c_double, c_int]),
    ("paramGetNumKeys", [c_void_p, c_void_p]),
    ("paramGetKeyTime", [c_void_p, c_uint, c_void_p]),
    ("paramGetKeyIndex", [c_void_p, c_double, c_int, c_void_p]),
    ("paramDeleteKey", [c_void_p, c_double]),
    ("paramDeleteAllKeys", [c_void_p]),
    ("paramCopy", [c_void_p, c_void_p, c_double, c_void_p]),
    ("paramEditBegin", [c_void_p, c_char_p]),
    ("paramEditEnd", [c_void_p]),
]
_SAY = ("message", [c_void_p, c_char_p, c_char_p, c_char_p, c_char_p])
_MESSAGE_1 = [_SAY]
_MESSAGE_2 = [
    _SAY,
    ("setPersistentMessage", _SAY[1]),
    ("clearPersistentMessage", [c_void_p]),
]


class _OfxHost(ctypes.Structure):
    _fields_ = [("host", c_void_p), ("fetchSuite", c_void_p)]


class _OfxPlugin(ctypes.Structure):
    _fields_ = [
        ("pluginApi", c_char_p),
        ("apiVersion", c_int),
        ("pluginIdentifier", c_char_p),
        ("pluginVersionMajor", c_uint),
        ("pluginVersionMinor", c_uint),
        ("setHost", CFUNCTYPE(None, c_void_p)),
        ("mainEntry", CFUNCTYPE(c_int, c_char_p, c_void_p, c_void_p, c_void_p)),
    ]


class OfxHost:
    """A host with one plugin loaded. `with OfxHost(binary) as host: host.create(GENERAL)`.

    name: `OfxPropName`, None for none. messages: "v2", "v1", "none", "v2-null" (pointers NULL),
    "v2-refused". refuse: names of properties, parameters and clips that this host does not take.
    """

    def __init__(
        self,
        binary: Path,
        *,
        name: Optional[str] = "org.mattebridge.testhost",
        messages: str = "v2",
        refuse: Iterable[str] = (),
        suites_missing: Iterable[str] = (),
        keep_instance_data: bool = True,
        separate_descriptors: bool = True,
        **properties: Any,
    ) -> None:
        self.complaints: list[str] = []
        self.said: list[tuple[str, str]] = []  # transient messages: type, text
        self.stops = 0
        self.refuse = set(refuse)
        self._messages, self._suites_missing = messages, set(suites_missing)
        self._keep_instance_data = keep_instance_data
        self._separate = separate_descriptors
        self._objects: dict[int, Any] = {}
        self._numbers = itertools.count(0x7FFF_0001_0000, 16)
        self._words = threading.local()
        self._alive: list[Any] = []
        self._suites: dict[tuple[str, int], Any] = {}
        self._instances: list[Instance] = []
        self.images_out = 0
        self._lock = threading.Lock()
        named = {} if name is None else {"OfxPropName": name}
        self.properties = PropertySet(**named, OfxPropAPIVersion=[1, 4], **properties)
        self._library = ctypes.CDLL(str(binary))
        self._library.OfxGetNumberOfPlugins.restype = c_int
        self._library.OfxGetPlugin.restype = c_void_p
        self._library.OfxGetPlugin.argtypes = [c_int]
        self.plugin = _OfxPlugin.from_address(self._library.OfxGetPlugin(0))
        self._make_suites()
        fetch = CFUNCTYPE(c_void_p, c_void_p, c_char_p, c_int)(self._fetch_suite)
        self._host_handle = self._handle(self.properties)
        self._given = _OfxHost(self._host_handle, ctypes.cast(fetch, c_void_p))
        self._alive.append(fetch)
        self.plugin.setHost(ctypes.addressof(self._given))

    # -- the order of life ------------------------------------------------------------------

    def load(self) -> int:
        """OfxActionLoad."""
        return self.call("OfxActionLoad", None)

    def unload(self) -> int:
        """Destroy what is left, then OfxActionUnload; the library stays open."""
        for instance in list(self._instances):
            instance.destroy()
        return self.call("OfxActionUnload", None)

    def close_library(self) -> None:
        """Take the library out of the process."""
        _ctypes.dlclose(self._library._handle)

    def describe(self, context: str = GENERAL) -> Effect:
        """Describe and DescribeInContext; the descriptor of that context."""
        first = self._new_descriptor(context)
        status = self.call("OfxActionDescribe", self._handle(first))
        assert status in (OK, DEFAULT), status
        if self._separate:
            second = self._new_descriptor(context)
            second.properties.values = {k: list(v) for k, v in first.properties.values.items()}
        else:
            second = first
        arguments = PropertySet(OfxImageEffectPropContext=context)
        status = self.call("OfxImageEffectActionDescribeInContext", self._handle(second), arguments)
        assert status in (OK, DEFAULT), status
        return second

    def create(self, context: str = GENERAL, **params: Any) -> Instance:
        """An instance with parameters at their defaults, but for those given."""
        made = Instance(self, self.describe(context), params)
        self._instances.append(made)
        return made

    def __enter__(self) -> OfxHost:
        assert self.load() == OK
        return self

    def __exit__(self, *_exception: object) -> None:
        self.unload()

    def call(
        self,
        action: str,
        handle: Optional[int],
        inside: Optional[PropertySet] = None,
        out: Optional[PropertySet] = None,
    ) -> int:
        """One call of mainEntry."""
        self._words.action = action
        try:
            handles = [self._handle(s) if s is not None else None for s in (inside, out)]
            return int(self.plugin.mainEntry(action.encode(), handle, *handles))
        finally:
            self._words.action = ""

    # -- handles ------------------------------------------------------------------------------

    def _handle(self, thing: Any) -> int:
        with self._lock:
            known = getattr(thing, "_handle_number", None)
            if known is not None and self._objects.get(known) is thing:
                return int(known)
            number = next(self._numbers)
            self._objects[number] = thing
        thing._handle_number = number
        return number

    def forget(self, thing: Any) -> None:
        """The handle of this thing is no longer good."""
        self._objects.pop(getattr(thing, "_handle_number", 0), None)

    def _of(self, handle: Optional[int], kind: type) -> Any:
        thing = self._objects.get(handle or 0)
        if not isinstance(thing, kind):
            self.complain(f"a bad handle where a {kind.__name__} should be")
            raise _Refused(BAD_HANDLE)
        return thing

    def complain(self, what: str) -> None:
        """Note a breach of the standard."""
        self.complaints.append(f"{getattr(self._words, 'action', '')}: {what}")

    def _new_descriptor(self, context: str) -> Effect:
        return Effect(context, PropertySet(KNOWN["effect"]))

    # -- suites ---------------------------------------------------------------------------------

    def _make_suites(self) -> None:
        for key, table, owner in (
            (("OfxPropertySuite", 1), _PROPERTY, self),
            (("OfxImageEffectSuite", 1), _EFFECT, self),
            (("OfxParameterSuite", 1), _PARAMETER, self),
            (("OfxMessageSuite", 1), _MESSAGE_1, self),
            (("OfxMessageSuite", 2), _MESSAGE_2, self),
        ):
            null = key == ("OfxMessageSuite", 2) and self._messages == "v2-null"
            pointers = (c_void_p * len(table))()
            for index, (name, types) in enumerate(table):
                made = CFUNCTYPE(c_int, *types)(
                    self._guarded(getattr(owner, f"_{name}", None), name)
                )
                self._alive.append(made)
                pointers[index] = None if null else ctypes.cast(made, c_void_p).value
            self._suites[key] = pointers

    def _guarded(self, function: Optional[Callable[..., Any]], name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            self._spoil_words()
            try:
                if function is None:
                    self.complain(f"{name} is not for this plugin")
                    return UNKNOWN
                status = function(*arguments)
                return OK if status is None else int(status)
            except _Refused as refused:
                return refused.status
            except Exception as error:  # nothing may pass through the plugin
                self.complain(f"{name} raised {error!r}")
                return FAILED

        return call

    def _fetch_suite(self, host: Optional[int], name: bytes, version: int) -> Optional[int]:
        if host != self._host_handle:
            self.complain("fetchSuite without the host's own handle")
        key = (name.decode(), version)
        if key[0] in self._suites_missing:
            return None
        if key[0] == "OfxMessageSuite":
            offered = {"none": [], "v1": [1]}.get(self._messages, [1, 2])
            if version not in offered or (self._messages == "v2-null" and version == 1):
                return None
        found = self._suites.get(key)
        return None if found is None else ctypes.addressof(found)

    # -- strings that die at the next call ------------------------------------------------------

    def _spoil_words(self) -> None:
        for buffer in getattr(self._words, "lent", []):
            ctypes.memset(buffer, 0xDD, len(buffer) - 1)
        # Memory stays mapped for a while, so that a careless reader gets rubbish, not luck.
        self._words.old = (getattr(self._words, "old", []) + getattr(self._words, "lent", []))[-64:]
        self._words.lent = []

    def _lend(self, text: str) -> int:
        buffer = ctypes.create_string_buffer(text.encode())
        self._words.lent.append(buffer)
        return ctypes.addressof(buffer)

    # -- property suite ---------------------------------------------------------------------------

    def _set(self, handle: int, name: bytes, index: int, kind: str, value: Any) -> Optional[int]:
        properties, word = self._of(handle, PropertySet), name.decode()
        if word in self.refuse:
            return UNKNOWN
        if properties.schema is None and not word.startswith("OfxPropInstanceData"):
            self.complain(f"{word} is read-only here")
            return VALUE
        if properties.schema is not None:
            known = properties.schema.get(word)
            if known is None:
                self.complain(f"no property {word} here")
                return UNKNOWN
            if known[0] != kind:
                self.complain(f"{word} is of type {known[0]}, not {kind}")
                return VALUE
            if known[1] and index >= known[1]:
                self.complain(f"{word} has {known[1]} values, not {index + 1}")
                return BAD_INDEX
        values = properties.values.setdefault(word, [])
        if index > len(values):
            self.complain(f"{word} would have a gap before {index}")
            return BAD_INDEX
        values[index : index + 1] = [value]
        return None

    def _propSetPointer(self, h: int, n: bytes, i: int, v: Any) -> Optional[int]:
        if n == b"OfxPropInstanceData" and not self._keep_instance_data:
            return UNKNOWN
        return self._set(h, n, i, "p", v)

    def _propSetString(self, h: int, n: bytes, i: int, v: bytes) -> Optional[int]:
        return self._set(h, n, i, "s", v.decode())

    def _propSetDouble(self, h: int, n: bytes, i: int, v: float) -> Optional[int]:
        return self._set(h, n, i, "d", v)

    def _propSetInt(self, h: int, n: bytes, i: int, v: int) -> Optional[int]:
        return self._set(h, n, i, "i", v)

    def _value(self, handle: int, name: bytes, index: int, types: tuple[type, ...]) -> Any:
        properties = self._of(handle, PropertySet)
        values = properties.values.get(name.decode())
        if values is None or name.decode() in self.refuse:
            raise _Refused(UNKNOWN)
        if not 0 <= index < len(values):
            raise _Refused(BAD_INDEX)
        if not isinstance(values[index], types):
            self.complain(f"{name.decode()} read as another type")
            raise _Refused(VALUE)
        return values[index]

    def _propGetPointer(self, h: int, n: bytes, i: int, out: int) -> None:
        _store(out, c_void_p, self._value(h, n, i, (int, type(None))))

    def _propGetString(self, h: int, n: bytes, i: int, out: int) -> None:
        value = self._value(h, n, i, (str, type(None)))
        _store(out, c_void_p, None if value is None else self._lend(value))

    def _propGetDouble(self, h: int, n: bytes, i: int, out: int) -> None:
        _store(out, c_double, self._value(h, n, i, (float, int)))

    def _propGetInt(self, h: int, n: bytes, i: int, out: int) -> None:
        _store(out, c_int, int(self._value(h, n, i, (int, bool))))

    def _propGetDimension(self, h: int, n: bytes, out: int) -> None:
        _store(out, c_int, len(self._of(h, PropertySet).values.get(n.decode(), [])))

    # -- image effect suite -----------------------------------------------------------------------

    def _getPropertySet(self, effect: int, out: int) -> None:
        _store(out, c_void_p, self._handle(self._of(effect, Effect).properties))

    def _getParamSet(self, effect: int, out: int) -> None:
        _store(out, c_void_p, self._handle(_ParamSet.of(self._of(effect, Effect))))

    def _clipDefine(self, effect: int, name: bytes, out: int) -> Optional[int]:
        if self._words.action != "OfxImageEffectActionDescribeInContext":
            self.complain("clipDefine outside of DescribeInContext")
        found = self._of(effect, Effect)
        if name.decode() in self.refuse:
            return FAILED
        if name.decode() in found.clips:
            return EXISTS
        made = found.clips[name.decode()] = PropertySet(KNOWN["clip"])
        _store(out, c_void_p, self._handle(made))
        return None

    def _clipGetHandle(self, effect: int, name: bytes, clip: int, out: int) -> Optional[int]:
        found = self._of(effect, Effect)
        if found.instance is None:
            self.complain("clipGetHandle on a descriptor")
            return BAD_HANDLE
        made = found.instance.clip(name.decode())
        if made is None:
            return FAILED
        _store(clip, c_void_p, self._handle(made))
        if out:
            _store(out, c_void_p, self._handle(made.properties()))
        return None

    def _clipGetPropertySet(self, clip: int, out: int) -> None:
        _store(out, c_void_p, self._handle(self._of(clip, Clip).properties()))

    def _clipGetImage(
        self, clip: int, time: float, region: Optional[int], out: int
    ) -> Optional[int]:
        if self._words.action != "OfxImageEffectActionRender":
            self.complain("clipGetImage outside of Render")
        found: Clip = self._of(clip, Clip)
        found.asked.append((time, bool(region)))
        properties = found.image(bool(region))
        if isinstance(properties, int):
            return properties
        if properties is None:
            _store(out, c_void_p, None)
            return OK
        with self._lock:
            self.images_out += 1
        _store(out, c_void_p, self._handle(properties))
        return None

    def _clipReleaseImage(self, image: int) -> None:
        properties = self._of(image, PropertySet)
        self.forget(properties)
        with self._lock:
            self.images_out -= 1

    def _clipGetRegionOfDefinition(self, clip: int, _time: float, out: int) -> Optional[int]:
        content = self._of(clip, Clip).content
        if not isinstance(content, HostImage):
            return FAILED
        ctypes.memmove(out, (c_double * 4)(*content.rod), 32)
        return None

    def _abort(self, effect: int) -> int:
        instance = self._of(effect, Effect).instance
        assert instance is not None
        instance.abort_calls += 1
        return 1 if instance.aborted() else 0

    # -- parameter suite --------------------------------------------------------------------------

    def _paramDefine(self, owner: int, kind: bytes, name: bytes, out: int) -> Optional[int]:
        if self._words.action != "OfxImageEffectActionDescribeInContext":
            self.complain("paramDefine outside of DescribeInContext")
        effect = self._of(owner, _ParamSet).effect
        word, short = name.decode(), kind.decode().replace("OfxParamType", "")
        if word in self.refuse or kind.decode() in self.refuse:
            return 5
        if word in effect.params:
            return EXISTS
        if short not in PARAM_TYPES:
            return UNKNOWN
        value = KNOWN["value"] if PARAM_TYPES[short][0] else ""
        schema = ", ".join(filter(None, (KNOWN["param"], value, PARAM_TYPES[short][1])))
        made = effect.params[word] = Param(short, PropertySet(schema))
        if out:
            _store(out, c_void_p, self._handle(made.properties))
        return None

    def _paramGetHandle(self, owner: int, name: bytes, out: int, properties: int) -> Optional[int]:
        effect = self._of(owner, _ParamSet).effect
        if effect.instance is None:
            self.complain("paramGetHandle on a descriptor")
            return BAD_HANDLE
        found = effect.params.get(name.decode())
        if found is None:
            return UNKNOWN
        _store(out, c_void_p, self._handle(found))
        if properties:
            _store(properties, c_void_p, self._handle(found.properties))
        return None

    def _paramGetValue(self, param: int, out: int) -> None:
        if self._words.action == "OfxImageEffectActionRender":
            self.complain("paramGetValue in Render: there is a time")
        self._give_value(param, out)

    def _paramGetValueAtTime(self, param: int, _time: float, out: int) -> None:
        self._give_value(param, out)

    def _give_value(self, param: int, out: int) -> None:
        found: Param = self._of(param, Param)
        kind = PARAM_TYPES[found.kind][0]
        if kind == "s":
            _store(out, c_void_p, None if found.value is None else self._lend(found.value))
        elif kind:
            _store(out, c_double if kind == "d" else c_int, found.value)
        else:
            raise _Refused(UNKNOWN)

    def _paramSetValue(self, param: int, value: Optional[int]) -> None:
        """The value is a number or the address of a text, as the parameter's type says."""
        if self._words.action != "OfxActionInstanceChanged":
            self.complain("paramSetValue outside of InstanceChanged")
        found = self._of(param, Param)
        assert found.kind in ("Integer", "String")
        if found.kind == "Integer":
            found.value = c_int(value or 0).value
        else:
            assert value is not None
            found.value = ctypes.string_at(value).decode()

    # -- message suite --------------------------------------------------------------------------

    def _message(self, _effect: int, kind: bytes, _id: bytes, form: bytes, text: bytes) -> None:
        if form != b"%s":
            self.complain(f"a message whose format is {form!r}")
        self.said.append((kind.decode(), text.decode()))

    def _setPersistentMessage(
        self, effect: int, kind: bytes, _id: bytes, form: bytes, text: bytes
    ) -> Optional[int]:
        if self._messages == "v2-refused":
            return FAILED
        if form != b"%s":
            self.complain(f"a message whose format is {form!r}")
        instance = self._of(effect, Effect).instance
        assert instance is not None
        instance.message = (kind.decode(), text.decode())
        return None

    def _clearPersistentMessage(self, effect: int) -> None:
        instance = self._of(effect, Effect).instance
        assert instance is not None
        instance.message = None


class _Refused(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


class _ParamSet:
    """The parameter set of an effect, as a thing of its own with a handle of its own."""

    def __init__(self, effect: Effect) -> None:
        self.effect = effect

    @staticmethod
    def of(effect: Effect) -> _ParamSet:
        """Always the same one."""
        if not hasattr(effect, "_param_set"):
            effect._param_set = _ParamSet(effect)  # type: ignore[attr-defined]
        return effect._param_set  # type: ignore[attr-defined, no-any-return]


class Clip:
    """One input or the output of an instance, with what is connected to it."""

    def __init__(self, name: str, context: str) -> None:
        self.name = name
        self.content: Content = Missing.UNCONNECTED
        self.asked: list[tuple[float, bool]] = []
        self.context = context
        self.colourspace: Optional[str] = None
        self._properties = PropertySet()

    def properties(self) -> PropertySet:
        """The clip's, in its present state."""
        values: dict[str, Any] = {"OfxPropName": self.name}
        if isinstance(self.content, HostImage):
            image = self.content.properties()
            for name in (
                "OfxImageEffectPropPixelDepth",
                "OfxImageEffectPropComponents",
                "OfxImageEffectPropPreMultiplication",
            ):
                if name in image.values:
                    values[name] = image.get(name)
        if self.content is not Missing.BARE:
            values["OfxImageClipPropConnected"] = int(self.content is not Missing.UNCONNECTED)
        if self.colourspace is not None:
            values["OfxImageClipPropColourspace"] = self.colourspace
        self._properties.values = {name: [value] for name, value in values.items()}
        return self._properties

    def image(self, by_region: bool) -> Union[PropertySet, int, None]:
        """Properties, a status, or None for a NULL image."""
        content = self.content
        if content in (Missing.UNCONNECTED, Missing.STATUS):
            return FAILED
        if content is Missing.NULL_IMAGE:
            return None
        if content in (Missing.NULL_DATA, Missing.BARE):
            return PropertySet(OfxImagePropData=None if content is Missing.NULL_DATA else [None])
        if content is Missing.BLACK:
            self._black = HostImage(np.zeros((24, 32, 4), np.float32))
            return self._black.properties()
        assert isinstance(content, HostImage)
        if by_region and content.whole is not None:
            return content.whole.properties()
        return content.properties()


class Instance:
    """A node: its parameters by attribute-like `set`, its inputs by `connect`, its renders."""

    def __init__(self, host: OfxHost, descriptor: Effect, params: dict[str, Any]) -> None:
        self.host = host
        self.message: Optional[tuple[str, str]] = None
        self.abort_calls = 0
        self.aborted: Callable[[], bool] = lambda: False
        self.descriptor = descriptor
        self.effect = Effect(
            descriptor.context,
            PropertySet(OfxImageEffectPropContext=descriptor.context, OfxPropIsInteractive=0),
            instance=self,
        )
        for name, param in descriptor.params.items():
            kind = PARAM_TYPES[param.kind][0]
            value = param.properties.get("OfxParamPropDefault", ZERO.get(kind))
            self.effect.params[name] = Param(param.kind, PropertySet(), value)
        self._clips = {name: Clip(name, descriptor.context) for name in descriptor.clips}
        self._threads = threading.local()
        self.set(**params)
        self._handle = host._handle(self.effect)
        assert host.call("OfxActionCreateInstance", self._handle) in (OK, DEFAULT)

    def set(self, **params: Any) -> Instance:
        """Change parameters."""
        for name, value in params.items():
            self.effect.params[name].value = value
        return self

    def connect(self, **clips: Content) -> Instance:
        """Change what is connected: `connect(Source=HostImage(...), Background=Missing.STATUS)`."""
        for name, content in clips.items():
            self._clips[name].content = content
        return self

    def manage_colours(self, style: str, config: str = "", **spaces: Optional[str]) -> Instance:
        """Say in which space each input is: `manage_colours("Core", Source="ACEScg")`."""
        values = {
            "OfxImageEffectPropColourManagementStyle": f"OfxImageEffectColourManagement{style}",
            "OfxImageEffectPropColourManagementConfig": NATIVE_CONFIG,
            "OfxImageEffectPropOCIOConfig": config,
        }
        self.effect.properties.values.update({name: [value] for name, value in values.items()})
        for name, space in spaces.items():
            self._clips[name].colourspace = space
        return self

    def output_colourspace(self) -> tuple[int, Optional[str]]:
        """The status, and in which space the plugin gives its output."""
        out = PropertySet("OfxImageClipPropColourspace s1")
        arguments = PropertySet(OfxImageClipPropPreferredColourspaces=["OfxColourspace_Source"])
        action = "OfxImageEffectActionGetOutputColourspace"
        status = self.host.call(action, self._handle, arguments, out)
        return status, out.get("OfxImageClipPropColourspace")

    def clip(self, name: str) -> Optional[Clip]:
        """The clip of this name; the output is each thread's own."""
        if name == "Output":
            return getattr(self._threads, "output", None) or self._clips.get(name)
        return self._clips.get(name)

    def render(
        self,
        output: Optional[HostImage] = None,
        *,
        time: float = 1.0,
        window: Optional[Window] = None,
        scale: tuple[float, float] = (1.0, 1.0),
        interactive: bool = False,
    ) -> tuple[int, HostImage]:
        """The status and the output image; checks that nothing outside the window changed."""
        if output is None:
            source = self._clips["Source"].content
            assert isinstance(source, HostImage)
            output = blank(source.shape[0], source.shape[1], 4, source.dtype,
                           origin=source.bounds[:2])  # fmt: skip
        clip = self._threads.output = Clip("Output", self.effect.context)
        clip.content = output
        window = window or output.bounds
        before = output.memory.copy() if window != output.bounds else None
        arguments = PropertySet(
            OfxPropTime=float(time),
            OfxImageEffectPropFieldToRender="OfxFieldNone",
            OfxImageEffectPropRenderWindow=window,
            OfxImageEffectPropRenderScale=scale,
            OfxImageEffectPropSequentialRenderStatus=0,
            OfxImageEffectPropInteractiveRenderStatus=int(interactive),
            OfxImageEffectPropRenderQualityDraft=0,
        )
        status = self.host.call("OfxImageEffectActionRender", self._handle, arguments)
        self.host.forget(arguments)
        self.host.forget(clip)
        if not output.canaries_live():
            self.host.complain("bytes around the output were written")
        if before is not None and not _same_outside(output, before, window):
            self.host.complain("pixels outside of the render window were written")
        return status, output

    def changed(
        self, name: str, reason: str = "OfxChangeUserEdited", kind: str = "OfxTypeParameter"
    ) -> int:
        """A parameter was changed, a button pressed, or, by its `kind`, a clip connected."""
        arguments = PropertySet(
            OfxPropType=kind,
            OfxPropName=name,
            OfxPropChangeReason=reason,
            OfxPropTime=1.0,
            OfxImageEffectPropRenderScale=(1.0, 1.0),
        )
        return self.host.call("OfxActionInstanceChanged", self._handle, arguments)

    def clip_preferences(self) -> tuple[int, PropertySet]:
        """What the plugin wants of its clips."""
        schema = (
            "OfxImageClipPropComponents_Output s1, OfxImageEffectPropPreMultiplication s1,"
            "OfxImageClipPropDepth_Output s1, OfxImageEffectFrameVarying i1,"
        ) + ", ".join(f"OfxImageClipPropPreferredColourspaces_{name} s0" for name in self._clips)
        out = PropertySet(schema)
        return self.host.call(
            "OfxImageEffectActionGetClipPreferences", self._handle, None, out
        ), out

    def regions_of_interest(self, region: tuple[float, ...]) -> dict[str, list[float]]:
        """What the plugin needs of each input to render a region."""
        out = PropertySet(", ".join(f"OfxImageClipPropRoI_{name} d4" for name in self._clips))
        arguments = PropertySet(
            OfxPropTime=1.0,
            OfxImageEffectPropRenderScale=(1.0, 1.0),
            OfxImageEffectPropRegionOfInterest=region,
        )
        status = self.host.call(
            "OfxImageEffectActionGetRegionsOfInterest", self._handle, arguments, out
        )
        assert status in (OK, DEFAULT)
        return {name.rpartition("_")[2]: value for name, value in out.values.items()}

    def act(self, action: str) -> int:
        """Any other action, without arguments."""
        return self.host.call(action, self._handle, PropertySet(), PropertySet(""))

    def destroy(self) -> None:
        """DestroyInstance."""
        assert self.host.call("OfxActionDestroyInstance", self._handle) in (OK, DEFAULT)
        self.host.forget(self.effect)
        self.host._instances.remove(self)


def _store(address: int, kind: Any, value: Any) -> None:
    ctypes.cast(address, POINTER(kind))[0] = value


def _same_outside(output: HostImage, before: np.ndarray, window: Window) -> bool:
    x1, y1, x2, y2 = window
    left, bottom, _right, top = output.bounds
    now = output.memory.copy()
    for memory in (now, before):
        rows = memory[CANARY_BYTES:-CANARY_BYTES].reshape(output.rows.shape)
        size = output.channels * output.dtype.itemsize
        for y in range(max(y1, bottom), min(y2, top)):
            row = top - 1 - y if output.negative else y - bottom
            rows[row, max(0, (x1 - left) * size) : max(0, (x2 - left) * size)] = 0
    return bool(np.array_equal(now, before))
