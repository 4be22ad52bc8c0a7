"""Pictures on disk <-> arrays: EXR, PNG, JPEG, TIFF and DPX; sequences, folders and videos.

    read:   file -> OpenImageIO (EXR, DPX, TIFF, JPEG) or OpenCV (PNG) -> channels by NAME
            -> data window placed in the display window -> Frame, in the file's own sample type
    write:  array -> colour and alpha as the file type wants them -> encoded in memory
            -> temporary name in the same folder, fsync, rename (whole_files.py)

Arrays are (height, width, channels), top row first, RGB order. A file type has one colour
convention: EXR and float TIFF hold scene-linear light with premultiplied alpha; PNG, JPEG,
8/16-bit TIFF and DPX hold sRGB-encoded pixels with straight alpha (a tag in the file may tell
otherwise when reading). A matte of one channel is linear coverage everywhere; no curve is applied
to it.

    frame      Frame, FrameHeader, windows        samples       sample types converted
    read       file -> Frame                      sequences     which files an input means
    write      array -> file; Encoding            sources       a picture of a file or of a video
    check      is a file whole                    video_read    videos in
    metadata   what outputs get of it             video_write   videos out
    jpeg, tails  damage no library reports        timecodes     SMPTE timecode

    video_times      when pictures are shown; whether all are there    container_ends   cut files
    video_pictures   decoded pictures <-> codes by their tags          ycbcr            YUV <-> RGB
    channels         which channels of a file are its picture
    matching         which pictures of several inputs belong together
    frame_ranges     frame numbers as text        output_names    what results are called
    other_videos     types that are not read, and what to convert them to

The names below are imported from here, everything else from its module.
"""

from mattebridge.image_io.check import check_frame
from mattebridge.image_io.frame import (
    MAX_PIXELS,
    MAX_SIDE_PX,
    Attribute,
    Frame,
    FrameHeader,
    PathLike,
    Window,
)
from mattebridge.image_io.read import matte_of, read_frame, read_header, read_matte
from mattebridge.image_io.write import (
    EXTENSIONS,
    JPEG_QUALITY,
    Encoding,
    display_codes,
    encode_frame,
    write_frame,
)

__all__ = [
    "EXTENSIONS",
    "JPEG_QUALITY",
    "MAX_PIXELS",
    "MAX_SIDE_PX",
    "Attribute",
    "Encoding",
    "Frame",
    "FrameHeader",
    "PathLike",
    "Window",
    "check_frame",
    "display_codes",
    "encode_frame",
    "matte_of",
    "read_frame",
    "read_header",
    "read_matte",
    "write_frame",
]
