"""Detects pictures and videos from their first bytes and the endings of their names.

Content decides where it is known, because files are renamed: a JPEG may be called IMG_1.HEIC.
"""

import dataclasses
import importlib.util
from pathlib import Path

# Endings of the files that are predicted. Animated GIF and WebP files count as photographs: only
# their first frame is read.
IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".jpx", ".mpo", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
VIDEO_SUFFIXES = (
    *(".264", ".3g2", ".3gp", ".asf", ".avi", ".f4v", ".flv", ".h264", ".h265", ".hevc", ".m2ts"),
    *(".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
# Programs in TypeScript have these endings, too: content decides.
_VIDEO_BY_CONTENT = (".mts", ".ts")

INSTALL_HEIF = "pip install 'pare-jax[heif]'"
# Bytes that `kind_of_content` looks at: five packets of a transport stream and more.
_HEAD = 1000
_PACKETS = 5


@dataclasses.dataclass(frozen=True)
class Unread:
    """A kind of picture or video that is not read.

    Attributes:
        noun: names one such file.
        way_out: what to do with such files.
    """

    noun: str
    way_out: str


RAW = Unread("raw photograph", "export it as JPEG")
HEIF = Unread("HEIC photograph", f"needs pillow-heif: {INSTALL_HEIF}")
_LAYERED = Unread("layered picture", "export it as JPEG or PNG")
_OTHER = Unread("unsupported picture", "convert it to JPEG or PNG")
_RAW_VIDEO = Unread("raw video", "export it as MP4")
_PREVIEW = Unread("camera's preview", "name it to predict it")

_UNREAD: tuple[tuple[Unread, tuple[str, ...]], ...] = (
    (RAW, (".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".gpr", ".iiq")),
    (RAW, (".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw")),
    (RAW, (".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f")),
    (_LAYERED, (".afphoto", ".kra", ".ora", ".psb", ".psd", ".xcf")),
    (_OTHER, (".exr", ".hdr", ".jxl", ".jxr", ".svg", ".tga", ".wdp")),
    (_RAW_VIDEO, (".ari", ".braw", ".crm", ".r3d")),
    (_PREVIEW, (".lrv", ".thm")),
)
_UNREAD_SUFFIXES = {suffix: kind for kind, suffixes in _UNREAD for suffix in suffixes}
# Copies that programs keep while or after they write a file.
_COPY_ENDINGS = ("~", ".bak", ".crdownload", ".part", ".partial", ".tmp", "_original")

# Brands of ISO base media files, the second box field of HEIC, AVIF, MP4 and others.
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_AUDIO_BRANDS = (b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B ", b"aax ")
# Boxes of an old QuickTime file before those of the film, "moov" and "mdat".
_FIRST_BOXES = (b"wide", b"free", b"skip", b"pnot", b"PICT")
# Larger indexes of films and lists of brands, bytes, are none: text is a large number.
_LARGEST_INDEX, _LARGEST_BRANDS = 1 << 28, 1 << 16
# Bytes that are in no text.
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\v\f\r\x1b")
_JPEG = b"\xff\xd8\xff"
_PICTURES = (
    *(_JPEG, b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0"),
    *(b"MM\0+", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
)
_VIDEOS = (
    *(b"\0\0\0\1\x27", b"\0\0\0\1\x67", b"\0\0\0\1\x40\1"),  # bare H.264 and H.265
    *(b"\x1aE\xdf\xa3", b"\0\0\1\xba", b"\0\0\1\xb3", b"FLV\1"),
    b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa\0b\xcel",  # ASF: .wmv
    b"\x06\x0e+4\x02\x05\x01\x01\r\x01\x02\x01\x01",  # MXF
)

# "picture", "video", or a kind that is not read.
Kind = str | Unread


def kind_of_file(path: Path) -> Kind | None:
    """Return "picture", "video", a kind that is not read, or None for any other file.

    A file that cannot be opened is judged by its name.
    """
    suffix = path.suffix.lower()
    if unread := _UNREAD_SUFFIXES.get(suffix):
        return unread
    if path.name.lower().endswith(_COPY_ENDINGS):
        return None
    content = kind_of_content(read_head(path))
    if content == "heif":
        return "picture" if can_read_heif() else HEIF
    if content is not None:
        return content
    if suffix in IMAGE_SUFFIXES:
        return "picture"
    return "video" if suffix in VIDEO_SUFFIXES and suffix not in _VIDEO_BY_CONTENT else None


def is_raw(path: Path, head: bytes) -> bool:
    """Return whether a file is a camera's raw file, which opens as a TIFF with a thumbnail.

    Args:
        path: the file.
        head: its first bytes.
    """
    by_name = _UNREAD_SUFFIXES.get(path.suffix.lower()) is RAW
    return kind_of_content(head) is RAW or (by_name and not head.startswith(_JPEG))


def advice_for(path: Path, head: bytes) -> str:
    """Return what a file is that no reader knows, and what to do with it; "" if unknown.

    Args:
        path: the file.
        head: its first bytes.
    """
    kind = kind_of_content(head) or _UNREAD_SUFFIXES.get(path.suffix.lower())
    return f"{kind.noun}: {kind.way_out}" if isinstance(kind, Unread) else ""


def kind_of_content(head: bytes) -> Kind | None:
    """Return "picture", "heif", "video" or a kind that is not read, from a file's first bytes."""
    if head[4:8] == b"ftyp" and int.from_bytes(head[:4], "big") < _LARGEST_BRANDS:
        return _of_brands(head)
    riff = head[8:12] if head[:4] == b"RIFF" else b""
    # A bitmap's reserved fields are zero; other files begin with "BM" as well.
    is_bitmap = head[:2] == b"BM" and head[6:10] == bytes(4)
    if head.startswith(_PICTURES) or riff == b"WEBP" or is_bitmap:
        return "picture"
    if head.startswith((b"\0\0\0\x0cJXL ", b"\xff\x0a")):
        return _OTHER
    if head.startswith(b"8BPS"):
        return _LAYERED
    is_theora = head.startswith(b"OggS") and b"theora" in head
    if head.startswith(_VIDEOS) or riff == b"AVI " or is_theora:
        return "video"
    return "video" if _is_binary(head) and (_is_quicktime(head) or _is_stream(head)) else None


def read_head(path: Path) -> bytes:
    """Return a regular file's first bytes; none if it cannot be read or is a device or pipe."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                return file.read(_HEAD)
    except OSError:
        pass
    return b""


def can_read_heif() -> bool:
    """Return whether the package that reads HEIC is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def _of_brands(head: bytes) -> Kind | None:
    end = max(16, min(int.from_bytes(head[:4], "big"), len(head)))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))]
    if any(brand in _AVIF_BRANDS for brand in brands):
        return "picture"
    if any(brand in _HEIF_BRANDS for brand in brands):
        return "heif"
    if brands[0] == b"crx ":
        return RAW
    return None if brands[0] in _AUDIO_BRANDS else "video"


def _is_binary(head: bytes) -> bool:
    """Return whether a file is not text."""
    return not _CONTROLS.isdisjoint(head)


def _is_quicktime(head: bytes) -> bool:
    """Return whether these are QuickTime's boxes, with "moov" or "mdat" among the first."""
    place = 0
    while len(head) >= place + 8:
        size, kind = int.from_bytes(head[place : place + 4], "big"), head[place + 4 : place + 8]
        if kind == b"mdat":  # 0: to the end of the file; 1: the size has 64 bits
            return size in (0, 1) or size >= 8
        if kind == b"moov":
            return 8 <= size < _LARGEST_INDEX
        if kind not in _FIRST_BOXES or size < 8:
            return False
        place += size
    return False


def _is_stream(head: bytes) -> bool:
    """Return whether this is MPEG's transport stream: packets of 188 or 4 + 188 bytes."""
    return any(
        head[start : start + (_PACKETS - 1) * size + 1 : size] == b"G" * _PACKETS
        for start, size in ((0, 188), (4, 192))
    )
