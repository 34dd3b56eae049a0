"""Joining text messages into batches."""

from creemson.wire.batching import batched


def test_batched_joins_neighbouring_texts_and_keeps_binary_messages_in_place():
    """Order is kept; a text without a neighbour stays alone."""
    joined = batched(["a", "b", b"c", b"d", "e", b"f", "g", "h"], max_messages=10, max_bytes=100)
    assert joined == [
        '{"type":"batch","messages":[a,b]}', b"c", b"d", "e", b"f", '{"type":"batch","messages":[g,h]}',
    ]  # fmt: skip


def test_batched_leaves_batches_alone():
    """A batch is not a member of another one."""
    batch = batched(["a", "b"], max_messages=10, max_bytes=100)[0]
    assert batched(["a", batch, "b", "c", batch], max_messages=10, max_bytes=100) == ["a", batch, '{"type":"batch","messages":[b,c]}', batch]  # fmt: skip


def test_batched_starts_a_batch_at_either_limit():
    """Bytes count, not characters; a message above the limit is sent alone."""
    assert batched(["a", "b", "c"], max_messages=2, max_bytes=100)[1:] == ["c"]
    assert batched(["é" * 4, "a", "b"], max_messages=9, max_bytes=9) == [
        "é" * 4,
        '{"type":"batch","messages":[a,b]}',
    ]
    assert batched(["a" * 50, "b", "c"], max_messages=9, max_bytes=10)[0] == "a" * 50
