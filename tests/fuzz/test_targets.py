"""The targets of coverage-guided fuzzing, on mutations."""

import random

import pytest

from tests.fuzz import corpus
from tests.fuzz.mutations import Mutator
from tests.fuzz.targets import TARGETS

ROUNDS = 150


@pytest.fixture(scope="module")
def messages():
    return corpus.messages(0)


def inputs(target, mutator):
    """Return faulty input for a target."""
    match target:
        case "codec" | "names":
            return mutator.text()
        case "protocol":
            return b"\n".join(mutator.text() for _ in range(5))
        case "multipart":
            return b"multipart/form-data; boundary=B\n" + mutator.broken(corpus.FORM)
        case "http":
            return mutator.handshake()
        case "websocket":
            return b"".join(mutator.message()[0] for _ in range(4)) + mutator.violation()[0]


@pytest.mark.parametrize("target", TARGETS)
def test_fuzz_target_holds_for_mutations(target, messages):
    """Mutations without coverage guidance raise nothing."""
    mutator = Mutator(random.Random(target), messages)
    for _ in range(ROUNDS):
        TARGETS[target](inputs(target, mutator))
