"""Checks a MATLAB file before scipy reads it, which believes the file's sizes and its depth.

A file of MATLAB 5 is a list of elements: 4 bytes of type, 4 bytes of length, content. A compressed
element holds one other. Cells and structs hold matrices, at any depth; scipy reads them recursively
and crashes when its stack is full. See "MAT-File Level 5 File Format" of MathWorks.
"""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

_VERSION = b"\x00\x01IM"  # at byte 124: version 1.0, little endian
_HEADER = 128
_COMPRESSED = 15
_MATRIX = b"\x0e\x00\x00\x00"
# MPII's annotations take some 200 MB.
_LARGEST = 1 << 30
# Scipy needs less than 1 KB of its stack, which has 8 MB, for a level.
_FEW_MATRICES = 1000
# Seconds for the process that reads; MPII's annotations need less than one minute.
_PATIENCE = 600
_READ = "import sys; from scipy.io import loadmat; loadmat(sys.argv[1])"


def check_mat(path: Path) -> None:
    """Check that scipy can read a MATLAB file without taking all memory, or crashing.

    Args:
        path: the file. If it has many matrices, another process tries to read it.

    Raises:
        ValueError: it is not a MATLAB 5 file, has or expands to more than 1 GiB, or scipy crashes
            or does not end.
        OSError, zlib.error: it cannot be read.
    """
    if not path.is_file():
        raise ValueError("not a file")
    if path.stat().st_size > _LARGEST:
        raise ValueError("it has more than 1 GiB")
    raw = path.read_bytes()
    if raw[124:_HEADER] != _VERSION:
        raise ValueError("not a file of MATLAB 5")
    place, size, matrices = _HEADER, 0, 0
    while place + 8 <= len(raw):
        kind, length = struct.unpack_from("<II", raw, place)
        content = raw[place : place + 8 + length]
        if kind == _COMPRESSED:
            content = zlib.decompressobj().decompress(content[8:], _LARGEST)
        place, size = place + 8 + length, size + len(content)
        matrices += content.count(_MATRIX)
        if size >= _LARGEST:
            raise ValueError("it expands to more than 1 GiB")
    if matrices > _FEW_MATRICES:
        command = [sys.executable, "-c", _READ, path]
        try:
            done = subprocess.run(command, capture_output=True, check=False, timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            raise ValueError(f"scipy takes more than {_PATIENCE} s to read it") from None
        if done.returncode:
            raise ValueError("scipy cannot read it")
