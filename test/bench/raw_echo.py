"""The raw echo: reads a frame, decodes its body with msgspec, encodes the value again and writes a frame. Nothing else."""

import io
import os
import struct
import sys

import msgspec

decode, encode = msgspec.msgpack.Decoder().decode, msgspec.msgpack.Encoder().encode
header = struct.Struct("<2sBBIQ")
source = io.FileIO(3, closefd=False)


def exactly(size: int) -> memoryview:
    buffer = bytearray(size)
    view, at = memoryview(buffer), 0
    while at < size:
        got = source.readinto(view[at:])
        if not got:
            sys.exit()
        at += got
    return view


ahead = b""
while True:
    while len(ahead) < 16:
        more = os.read(3, 65536)
        if not more:
            sys.exit()
        ahead += more
    magic, kind, flags, length, call = header.unpack_from(ahead)
    body = ahead[16 : 16 + length]
    if len(body) < length:
        body += exactly(length - len(body))
    ahead = ahead[16 + length :]
    answer = encode(decode(body))
    frame = header.pack(magic, 66, 0, len(answer), call) + answer
    sent = os.write(4, frame)
    while sent < len(frame):
        sent += os.write(4, memoryview(frame)[sent:])
