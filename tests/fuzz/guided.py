"""Coverage-guided fuzzing: ``python -m tests.fuzz.guided TARGET [libFuzzer's options]``.

With ``FUZZ_PORT``, the inputs of the targets ``http`` and ``websocket`` are also sent to the server on that port:
coverage in this process finds the inputs, and a live server must handle them. Atheris never returns, so each target runs in
a separate process; :mod:`tests.fuzz.__main__` runs them all.
"""

import os
import random
import socket
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["creemson", "wsproto", "h11", "trio_websocket"]):
    from tests.fuzz import corpus, targets
    from tests.fuzz.mutations import Mutator
    from tests.fuzz.verdict import Frames, responses
    from tests.servers import upgrade_request

SEEDS = 200
"""Number of initial inputs."""


def seeds(target, rng):
    """Return initial inputs that are valid, so that the fuzzer need not invent JSON and HTTP first."""
    mutator = Mutator(rng, corpus.messages(rng.getrandbits(32)))
    make = {
        "codec": mutator.valid,
        "protocol": lambda: b"\n".join([mutator.valid() for _ in range(4)] + [b"\0data"]),
        "multipart": lambda: b"multipart/form-data; boundary=B\n" + corpus.FORM,
        "names": lambda: rng.choice(corpus.NAMES).encode(),
        "http": lambda: rng.choice(corpus.REQUESTS),
        "websocket": lambda: b"".join(mutator.frame(mutator.valid()) for _ in range(3)),
    }
    return (make[target]() for _ in range(SEEDS))


def live(target, port):
    """Return a function that sends an input to the server and checks the answer as this process does."""

    def send(data):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            try:
                connection.sendall(upgrade_request() + data if target == "websocket" else data)
                connection.shutdown(socket.SHUT_WR)
                received = b"".join(iter(lambda: connection.recv(65536), b""))
            except (ConnectionResetError, BrokenPipeError):  # the server closed before it had read everything
                return
        if target == "http":
            for status in responses(data, received):
                assert status < 500 or status in {501, 503, 505, 507}, status
        else:
            frames = Frames()
            frames.feed(received.partition(b"\r\n\r\n")[2])

    return send


def main():
    target, *options = sys.argv[1:]
    consume = targets.TARGETS[target]
    port = os.environ.get("FUZZ_PORT")
    send = live(target, int(port)) if port and target in {"http", "websocket"} else lambda data: None

    def test(data):
        consume(data)
        send(data)

    found = Path(os.environ["FUZZ_CORPUS"])
    for number, seed in enumerate(seeds(target, random.Random(os.environ.get("FUZZ_SEED")))):
        (found / f"seed{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *options, str(found)], test)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
