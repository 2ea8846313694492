"""Writes PNG and TIFF files whose samples have any number of bits."""

import struct
import zlib


def png(bits, colour, rows, transparent=b""):
    """Return a PNG file's bytes with a transparent colour; `rows` are packed samples."""
    width = len(rows[0]) * 8 // (bits * (3 if colour == 2 else 1))

    def chunk(name, data):
        whole = name + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), *[(b"tRNS", transparent)] * bool(transparent)]
    parts += [(b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff(bits, meaning, row, width, samples=1, sign=1):
    """Return a TIFF file's bytes with one row of packed samples; meaning 0: 0 is white."""
    depths = struct.pack(f"<{samples}H", *[bits] * samples).ljust(4, b"\0")
    entries = [
        (256, 4, 1, struct.pack("<I", width)),
        (257, 4, 1, struct.pack("<I", 1)),
        (258, 3, samples, depths if samples < 3 else struct.pack("<I", 200)),
        (259, 3, 1, struct.pack("<I", 1)),
        (262, 3, 1, struct.pack("<I", meaning)),
        (273, 4, 1, struct.pack("<I", 220)),
        (277, 3, 1, struct.pack("<I", samples)),
        (278, 4, 1, struct.pack("<I", 1)),
        (279, 4, 1, struct.pack("<I", len(row))),
        *[(339, 3, 1, struct.pack("<I", sign))] * (samples == 1),
    ]
    table = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)
    return head.ljust(200, b"\0") + depths.ljust(20, b"\0") + row
