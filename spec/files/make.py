# Makes the pictures beside it (needs numpy and pillow): x to the right, y down, from 0.
#   red 8 x, green 12 y, blue 5 (x + y), alpha 255 - 4 x; grey is red
import struct, zlib
import numpy as np
from PIL import Image

W, H = 30, 20
y, x = np.mgrid[0:H, 0:W]
red, green, blue, alpha = 8 * x, 12 * y, 5 * (x + y), 255 - 4 * x
rgb = np.stack([red, green, blue], -1).astype("u1")
rgba = np.stack([red, green, blue, alpha], -1).astype("u1")

Image.fromarray(rgb).save("rgb.png")
Image.fromarray(rgba).save("rgba.png")
Image.fromarray(red.astype("u1")).save("grey.png")
Image.fromarray(np.stack([red, alpha], -1).astype("u1"), "LA").save("grey_alpha.png")
Image.fromarray((257 * red + 1).astype("u2")).save("grey16.png")  # 257 red + 1
Image.fromarray(red > 100).save("bits.png")
Image.fromarray(red.astype("u1")).convert("P").save("palette.png")  # of greys
Image.fromarray(rgb).save("rgb.jpg", quality=95, subsampling=0)
Image.fromarray(rgb).save("progressive.jpg", quality=95, progressive=True)
Image.fromarray(red.astype("u1")).save("grey.jpg", quality=95)

# Sides that 2 does not divide, colours stored for two columns or rows, and as .png what libjpeg makes of them
patch = (127 + 120 * np.sin(np.stack([x * y, x + y * y, x - 3 * y], -1))).astype("u1")
for name, w, h, kind in ("both", 11, 7, 2), ("columns", 11, 7, 1), ("narrow", 3, 5, 2), ("rows", 16, 16, 1):
    Image.fromarray(patch[:h, :w]).save(name + ".jpg", quality=80, subsampling=kind)
    if name == "rows":  # of two columns become two rows: as many blocks, in another order
        data = open("rows.jpg", "rb").read()
        at = data.index(b"\xff\xc0") + 11
        assert data[at] == 0x21
        open("rows.jpg", "wb").write(data[:at] + b"\x12" + data[at + 1:])
    Image.open(name + ".jpg").save(name + ".png")


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(name, colour, rows, interlaced=0, more=b""):
    head = struct.pack(">IIBBBBB", W, H, 8, colour, 0, 0, interlaced)
    with open(name, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more +
                chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes(r) for r in rows))) +
                chunk(b"IEND", b""))


passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
png("interlaced.png", 2, [r.reshape(-1) for a, b, c, d in passes for r in rgb[a::c, b::d] if r.size], 1)
png("transparent.png", 0, red.astype("u1"), 0, chunk(b"tRNS", struct.pack(">H", 16)))  # red 16 is
