"""Mutations of valid messages, frames and requests, all drawn from one seeded ``random.Random``.

A connection is sent two parts: first any number of *messages*, whose frames are well-formed and whose content may be
anything, so the connection must stay open; at the end one *violation*, which may be anything, for example random bytes.
So the server has read each mutation that is counted.
"""

import json
import re
import struct

from websockets.frames import apply_mask

from tests.fuzz import corpus

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
WEIGHTS = {"ListJobs": 1, "ListFiles": 1, "Upload": 3, "Process": 6}
"""Relative frequency of each class of messages; the default is 4. Some have long answers."""
ODD_VALUES = [
    None, True, False, 0, -1, 1, 2, 1000, 1001, 2**31, 2**53, 2**63, 2**64, 10**30, 1.5, -0.0, 1e308, "", "0", "a" * 128,
    "a" * 129, "\x00", "ß", "😀", "\ud800", "../x", corpus.REAL, "species", "ping", [], {}, [[]], [0], [0, 0], ["species"],
    [0, "species"], [["species", "==", "Adelie"]], [["species", "in", []]], [["year", "desc"]], [["year", "mean", "m"]],
    {"type": "ping"}, [{"type": "ping", "id": "m"}, None], {"type": "batch", "messages": []},
]  # fmt: skip
ODD_BYTES = [
    b"NaN", b"1e999", b"-", b'"\\ud800"', b'"\\u0000"', b"[" * 3000, b'{"a":' * 1200, b"\0", b"\xef\xbb\xbf", b"\\", b'"', b",",
    b"}", b"{", b":", b"true", b"0" * 400, b"9" * 5000, b"\xe2\x80\xa8", b"\r\n",
]  # fmt: skip


class Mutator:
    """Makes mutations.

    Args:
        rng: the source of all random decisions.
        messages: valid messages by class: see :func:`tests.fuzz.corpus.messages`.
    """

    def __init__(self, rng, messages):
        self.rng = rng
        self._messages = messages
        self._kinds = list(messages)
        self._weights = [WEIGHTS.get(kind, 4) for kind in self._kinds]

    # --- content -------------------------------------------------------------------------------------

    def valid(self):
        """Return the JSON of a valid message; most file names come from a list."""
        (kind,) = self.rng.choices(self._kinds, self._weights)
        payload = self.rng.choice(self._messages[kind])
        if b'"filename"' in payload and (self.rng.random() < 0.8 or kind == "Upload"):
            value = json.loads(payload)
            value["filename"] = self.rng.choice(corpus.NAMES)
            if kind == "Upload" and self.rng.random() < 0.95:
                # Mostly a unique name: an upload that takes over another one waits for a sign of life of its peer.
                value["filename"] = f"{corpus.UPLOAD_PREFIX}{self.rng.getrandbits(32)}.csv"
                value["size"] = self.rng.choice([0, 1, 100, value["size"]])
            payload = json.dumps(value).encode()
        return payload

    def text(self):
        """Return the payload of a text message: valid UTF-8 with any content."""
        payload = self.valid()
        for _ in range(self.rng.choice((1, 1, 1, 2, 4))):
            payload = self.rng.choice(_TEXT_MUTATIONS)(self, payload)
        return payload.decode(errors="replace").encode()[: 2**19]

    def _value(self, payload):
        """Change one value of the JSON."""
        try:
            value = json.loads(payload)
        except (ValueError, RecursionError):
            return self._bytes(payload)
        holder, rng = value, self.rng
        while isinstance(holder, dict | list) and holder:
            key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
            if isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.6:
                holder = holder[key]
                continue
            way = rng.randrange(5)
            if way == 0:
                del holder[key]
            elif way == 1 and isinstance(holder, dict):
                holder[rng.choice(["type", "id", "filename", "x", "", "messages", "selectedColumns"])] = (
                    holder[key]
                )
            elif way == 1:
                holder.insert(key, holder[key])
            else:
                holder[key] = rng.choice(ODD_VALUES)
            break
        return json.dumps(value, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")

    def _bytes(self, payload):
        """Replace one byte, or flip one bit of it."""
        data = bytearray(payload or b"x")
        at = self.rng.randrange(len(data))
        data[at] = (
            data[at] ^ 1 << self.rng.randrange(7) if self.rng.random() < 0.5 else self.rng.randrange(128)
        )
        return bytes(data)

    def _insert(self, payload):
        at = self.rng.randrange(len(payload) + 1)
        return payload[:at] + self.rng.choice(ODD_BYTES) + payload[at:]

    def _cut(self, payload):
        start, end = sorted(self.rng.randrange(len(payload) + 1) for _ in range(2))
        return payload[:start] + payload[end:]

    def _truncate(self, payload):
        return payload[: self.rng.randrange(len(payload) + 1)]

    def _repeat(self, payload):
        start, end = sorted(self.rng.randrange(len(payload) + 1) for _ in range(2))
        return payload[:end] + payload[start:end] * self.rng.choice((1, 2, 20)) + payload[end:]

    def _splice(self, payload):
        other = self.valid()
        return payload[: self.rng.randrange(len(payload) + 1)] + other[self.rng.randrange(len(other) + 1) :]

    def _batch(self, payload):
        return b'{"type":"batch","messages":[' + b",".join([payload, self.valid(), payload]) + b"]}"

    def broken(self, data):
        """Return the bytes with one byte or a part changed."""
        return self.rng.choice([Mutator._bytes, Mutator._insert, Mutator._cut, Mutator._repeat])(self, data)

    # --- frames --------------------------------------------------------------------------------------

    def frame(self, payload, opcode=TEXT, *, final=True, mask=None):
        size, first = len(payload), (0x80 if final else 0) | opcode
        if size < 126:
            head = bytes((first, 0x80 | size))
        elif size < 2**16:
            head = struct.pack("!BBH", first, 0xFE, size)
        else:
            head = struct.pack("!BBQ", first, 0xFF, size)
        mask = self.rng.randbytes(4) if mask is None else mask
        return head + mask + apply_mask(payload, mask)

    def message(self):
        """Return the frames of a mutated message, and their number."""
        draw = self.rng.random()
        if draw < 0.06:
            return self.frame(self.rng.randbytes(self.rng.randrange(200)), BINARY), 1
        if draw < 0.10:
            return self.frame(self.rng.randbytes(self.rng.randrange(126)), self.rng.choice((PING, PONG))), 1
        if draw < 0.90:
            return self.frame(self.text()), 1
        return self._fragments(self.text())

    def _fragments(self, payload):
        """Return the fragments of a message, cut at any byte, with control frames between them."""
        cuts = sorted(self.rng.randrange(len(payload) + 1) for _ in range(self.rng.choice((1, 1, 2, 5))))
        pieces = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        frames = []
        for number, piece in enumerate(pieces):
            frames.append(self.frame(piece, 0 if number else TEXT, final=number == len(pieces) - 1))
            if number < len(pieces) - 1 and self.rng.random() < 0.3:
                frames.append(self.frame(b"between", self.rng.choice((PING, PONG))))
        return b"".join(frames), len(frames)

    def violation(self):
        """Return bytes that end a connection, or most likely do, and the kind of the violation."""
        way = self.rng.choice(_VIOLATIONS)
        return way(self), way.__name__.strip("_")

    def _header_bits(self):
        data = bytearray(self.frame(self.text()[: self.rng.choice((10, 200, 70_000))]))
        for _ in range(self.rng.choice((1, 1, 3))):
            data[self.rng.randrange(min(len(data), 14))] ^= 1 << self.rng.randrange(8)
        return bytes(data)

    def _any_opcode(self):
        return bytes([self.rng.randrange(256)]) + self.frame(self.text())[1:]

    def _no_mask(self):
        return struct.pack("!BB", 0x81, 4) + b"text"

    def _half_a_frame(self):
        data = self.frame(self.text())
        return data[: self.rng.randrange(len(data))]

    def _false_length(self):
        size = self.rng.choice([2**20 + 1, 2**31, 2**32, 2**62, 2**63, 2**64 - 1, 0, 100, 65535])
        opcode = self.rng.choice((TEXT, BINARY, 0, PING, CLOSE))
        return struct.pack("!BBQ", 0x80 | opcode, 0xFF, size) + self.rng.randbytes(self.rng.randrange(100))

    def _not_utf8(self):
        return self.frame(
            self._bytes(self.valid()) + self.rng.choice([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5"])
        )

    def _odd_close(self):
        code = self.rng.choice([0, 999, 1000, 1001, 1004, 1005, 1006, 1015, 2999, 3000, 4999, 5000, 65535])
        reason = self.rng.choice([b"", b"bye", b"\xff", b"x" * 123, b"x" * 130])
        return self.frame(self.rng.choice([b"", b"\x03", struct.pack("!H", code) + reason]), CLOSE)

    def _control_in_fragments(self):
        return self.frame(b"x", self.rng.choice((PING, PONG, CLOSE)), final=False) + self.frame(b"y", 0)

    def _long_control(self):
        return self.frame(b"x" * self.rng.choice((126, 70_000)), self.rng.choice((PING, PONG, CLOSE)))

    def _continuation(self):
        return self.frame(b"x", 0, final=self.rng.random() < 0.5)

    def _new_message_in_fragments(self):
        return self.frame(b"{", TEXT, final=False) + self.frame(b"{}", self.rng.choice((TEXT, BINARY)))

    def _noise(self):
        return self.rng.randbytes(self.rng.choice((1, 5, 50, 5000)))

    def _after_close(self):
        return self.frame(struct.pack("!H", 1000), CLOSE) + self.frame(self.text()) + self.frame(b"x", PING)

    def _message_too_large(self):
        piece = b"x" * 2**18
        return self.frame(piece, TEXT, final=False) + self.frame(piece, 0, final=False) * 4

    def _bytes_lost(self):
        data = b"".join(self.frame(self.text()) for _ in range(5))
        at = self.rng.randrange(len(data))
        return data[:at] + data[at + self.rng.choice((1, 2, 3, 10)) :]

    # --- handshakes ----------------------------------------------------------------------------------

    def handshake(self):
        """Return the bytes of one mutated request, or of several."""
        data = self.rng.choice(corpus.REQUESTS)
        for _ in range(self.rng.choice((1, 1, 2, 3))):
            data = self.rng.choice(_REQUEST_MUTATIONS)(self, data) or b"G"
        return data

    def _lines(self, data):
        head, end, body = data.partition(b"\r\n\r\n")
        return head.split(b"\r\n"), end + body

    def _some_line(self, data, change):
        lines, rest = self._lines(data)
        at = self.rng.randrange(len(lines))
        lines[at : at + 1] = change(lines[at])
        return b"\r\n".join(lines) + rest

    def _line_twice(self, data):
        return self._some_line(data, lambda line: [line, line])

    def _line_lost(self, data):
        return self._some_line(data, lambda line: [])

    def _line_folded(self, data):
        return self._some_line(
            data, lambda line: [line, self.rng.choice([b" folded", b"\tfolded", b" ", b"\t:"])]
        )

    def _line_odd(self, data):
        odd = [
            b":",
            b": x",
            b"x",
            b"a b: c",
            b"A\0: b",
            b"A: b\0c",
            b"\xff: \xff",
            b"A:" + b"x" * 40_000,
            b"A : b",
            b"",
        ]
        return self._some_line(data, lambda line: [line, self.rng.choice(odd)])

    def _header_added(self, data):
        odd = [
            b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 5, 6", b"Content-Length: 1e3", b"Content-Length: +5",
            b"Content-Length: 99999999999999999999", b"Content-Length:", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip",
            b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: \x0bchunked", b"Connection: close", b"Connection: upgrade",
            b"Upgrade: h2c", b"Upgrade: websocket", b"Expect: 100-continue", b"Expect: nonsense", b"Host: other", b"Host:",
            b"Host: \xff", b"Range: bytes=9-1", b"Range: bytes=" + b"0-1," * 500, b"Range: bytes=-", b"Range: lines=1-2",
            b"Origin: http://evil.example", b"Origin: null", b"Origin: http://[", b"Sec-WebSocket-Key: short",
            b"Sec-WebSocket-Key: \xff", b"Sec-WebSocket-Version: 12", b"Sec-WebSocket-Extensions: ;;,=\"", b"Sec-WebSocket-Protocol: ,",
            b"Content-Type: multipart/form-data; boundary=", b"Content-Type: multipart/form-data; boundary=" + b"b" * 300,
            b"Content-Type: \xff", b"If-Range: \"", b"If-Modified-Since: never", b"Cookie: \x7f", b"Accept-Encoding: *;q=x",
        ]  # fmt: skip
        return self._some_line(data, lambda line: [line, self.rng.choice(odd)])

    def _request_line(self, data):
        """Replace the method, target or version."""
        first, _, rest = data.partition(b"\r\n")
        words = first.split(b" ")
        odd = [
            b"GET", b"get", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PATCH", b"G\0T", b"", b"*", b"/",
            b"//", b"/ws", b"/WS", b"/%00", b"/%", b"/%ff", b"/..", b"http://test/ws", b"http://[/", b"/ws?\xc3\xa9", b"/" * 70, b"HTTP/1.0",
            b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/2", b"HTTP/1.1x", b"/columns/%2e%2e%2fx", b"/columns/" + b"x" * 300,
            b"/download/a%0d%0ab", b"/download/%e4", b"/static/", b"/static/%2e%2e/errors.py", b"/upload", b"/process", b"/" + b"x" * 5000,
        ]  # fmt: skip
        words[self.rng.randrange(len(words))] = self.rng.choice(odd)
        return b" ".join(words) + b"\r\n" + rest

    def _odd_line_ends(self, data):
        return data.replace(
            b"\r\n", self.rng.choice([b"\n", b"\r", b"\n\r", b"\r\r\n"]), self.rng.choice([1, 2, -1])
        )

    def _bits(self, data):
        changed = bytearray(data)
        for _ in range(self.rng.choice((1, 1, 5))):
            changed[self.rng.randrange(len(changed))] ^= 1 << self.rng.randrange(8)
        return bytes(changed)

    def _shortened(self, data):
        return data[: self.rng.randrange(1, len(data) + 1)]

    def _pipelined(self, data):
        return data + b"".join(self.rng.choice(corpus.REQUESTS) for _ in range(self.rng.choice((1, 2, 5))))

    def _chunks(self, data):
        odd = [
            b"zz",
            b"-1",
            b"+3",
            b"0x3",
            b"ffffffffffffffffffff",
            b"3;x=\0",
            b"",
            b"3 ",
            b"1;" + b"x" * 20_000,
        ]
        return re.sub(rb"\r\n[0-9a-f]+\r\n", b"\r\n" + self.rng.choice(odd) + b"\r\n", data, count=1)

    def _followed(self, data):
        return data + self.rng.choice(
            [self.frame(self.text()), b"\r\n" * 50, self.rng.randbytes(100), b"GET"]
        )

    def _noisy(self, data):
        at = self.rng.randrange(len(data) + 1)
        noise = self.rng.choice(
            [b"\0", b"\xff\xfe", b"\r\n\r\n", self.rng.randbytes(20), b"--B\r\n", b"x" * 70_000]
        )
        return data[:at] + noise + data[at:]


_TEXT_MUTATIONS = [Mutator._value] * 6 + [
    Mutator._bytes, Mutator._insert, Mutator._cut, Mutator._truncate, Mutator._repeat, Mutator._splice, Mutator._batch,
]  # fmt: skip
_VIOLATIONS = [
    Mutator._header_bits, Mutator._any_opcode, Mutator._no_mask, Mutator._half_a_frame, Mutator._false_length, Mutator._not_utf8,
    Mutator._odd_close, Mutator._control_in_fragments, Mutator._long_control, Mutator._continuation, Mutator._new_message_in_fragments,
    Mutator._noise, Mutator._after_close, Mutator._message_too_large, Mutator._bytes_lost,
]  # fmt: skip
_REQUEST_MUTATIONS = [
    Mutator._line_twice, Mutator._line_lost, Mutator._line_folded, Mutator._line_odd, Mutator._header_added, Mutator._header_added,
    Mutator._request_line, Mutator._odd_line_ends, Mutator._bits, Mutator._bits, Mutator._shortened, Mutator._pipelined, Mutator._chunks,
    Mutator._followed, Mutator._noisy,
]  # fmt: skip
