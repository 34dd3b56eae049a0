"""A store in an object store: what is there is what has a row, and its bytes are right."""

import hashlib
import random

import pytest

from creemson.errors import InvalidFormat, ObjectStoreError, ProcessingError
from tests.storage.objects.conftest import PIECE, World, read

LARGE = random.Random(1).randbytes(2 * PIECE + 12345)


def digest(data):
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", [0, 1, 1000, PIECE, PIECE + 1, len(LARGE)])
def test_upload_of_any_size_is_read_back(world, size):
    """Also one of no bytes, and one that ends with a piece."""
    data = LARGE[:size]
    world.upload("a.csv", data)
    assert world.content("a.csv") == data
    (info,) = world.store.listing()
    assert (info.filename, info.size, info.sha256, info.modified) == ("a.csv", size, digest(data), world.now)
    assert sum(world.objects().values()) == size
    assert len(world.objects()) == max(1, -(-size // PIECE))


def test_file_is_read_from_any_byte_on(world):
    """Across the borders of objects and of what is read ahead."""
    world.upload("a.csv", LARGE)
    rng = random.Random(2)
    with world.store.open(world.store.find("a.csv")).stream as stream:
        for _ in range(20):
            start, size = rng.randrange(len(LARGE)), rng.randrange(1, 8192)
            data = stream.read_at(start, size)
            assert data
            assert LARGE.startswith(data, start)
        assert stream.read_at(len(LARGE), 1) == b""


def test_what_was_read_ahead_is_ready(world):
    """So a download needs no thread for each piece."""
    world.upload("a.csv", LARGE)
    with world.store.open(world.store.find("a.csv")).stream as stream:
        room = bytearray(1000)
        assert stream.ready(0, memoryview(room)) == 0
        assert stream.read_at(0, 1000) == LARGE[:1000]
        assert stream.ready(1000, memoryview(room)) == 1000
        assert room == LARGE[1000:2000]


def test_upload_with_wrong_digest_is_refused_and_leaves_nothing(world):
    """Neither a file nor objects."""
    part = world.store.uploads.begin("a.csv", size=3, sha256=None, overwrite=False, resume=False)
    world.store.uploads.write(part, b"abc")
    with pytest.raises(ProcessingError) as caught:
        world.store.uploads.finish(part, "0" * 64)
    assert caught.value.reason == "checksum_mismatch"
    world.sweep()
    assert world.store.listing() == ()
    assert world.objects() == {}


def test_existing_name_is_refused_without_overwrite(world):
    """At the beginning, and if the name was taken meanwhile."""
    early = world.store.uploads.begin("a.csv", size=1, sha256=None, overwrite=False, resume=False)
    world.store.uploads.write(early, b"x")
    other = world.store.uploads.begin_unannounced("a.csv", least=0)
    world.store.uploads.write(other, b"abc")
    world.store.uploads.finish(other, None)
    for attempt in (
        lambda: world.store.uploads.begin("a.csv", size=1, sha256=None, overwrite=False, resume=False),
        lambda: world.store.uploads.finish(early, None),
    ):
        with pytest.raises(ProcessingError) as caught:
            attempt()
        assert caught.value.reason == "file_exists"
    world.sweep()
    assert world.content("a.csv") == b"abc"
    assert len(world.objects()) == 1


def test_unknown_name_is_refused_with_the_most_similar_one(world):
    """As in a folder."""
    world.upload("flights.csv", b"a")
    with pytest.raises(ProcessingError, match=r"Did you mean 'flights.csv'\?"):
        world.store.find("flight.csv")
    with pytest.raises(InvalidFormat):
        world.store.find("../a")


def test_deleted_file_is_gone_with_its_objects(world):
    """And a second time, there is none."""
    world.upload("a.csv", LARGE)
    world.store.delete("a.csv")
    assert world.store.listing() == ()
    assert world.objects() == {}
    with pytest.raises(ProcessingError) as caught:
        world.store.delete("a.csv")
    assert caught.value.reason == "file_not_found"


def test_replaced_file_leaves_only_the_new_objects(world):
    """Nobody held the old version."""
    world.upload("a.csv", b"old")
    world.upload("a.csv", b"newer")
    assert world.content("a.csv") == b"newer"
    assert list(world.objects().values()) == [5]


def test_held_version_stays_until_it_is_released(world):
    """Through replacing, removing, a sweep and a restart."""
    world.upload("a.csv", b"old")
    version = world.store.look_up("a.csv").version
    assert world.store.versions.hold("a.csv", version)
    world.upload("a.csv", b"new")
    world.store.delete("a.csv")
    world.sweep()
    found = world.store.versions.find("a.csv", version)
    assert found.identity.size == 3
    world.restart(holding=[("a.csv", version)])
    world.sweep()
    assert world.store.versions.find("a.csv", version) == found
    assert list(world.objects().values()) == [3]
    assert world.store.versions.release(version)
    world.store.versions.drop(version)
    assert world.objects() == {}
    with pytest.raises(ProcessingError) as caught:
        world.store.versions.find("a.csv", version)
    assert caught.value.reason == "file_changed"
    assert not world.store.versions.hold("a.csv", version)


def test_version_that_no_job_needs_after_a_restart_goes(world):
    """An earlier server kept it."""
    world.upload("a.csv", b"old")
    assert world.store.versions.hold("a.csv", world.store.look_up("a.csv").version)
    world.upload("a.csv", b"new")
    assert len(world.objects()) == 2
    world.restart()
    assert len(world.objects()) == 1


def test_open_file_can_be_read_after_it_was_removed(world):
    """Its objects go with the next sweep after it was closed."""
    world.upload("a.csv", LARGE)
    file = world.store.open(world.store.find("a.csv"))
    world.store.delete("a.csv")
    world.sweep()
    assert read(file) == LARGE
    world.sweep()
    assert world.objects() == {}
    with pytest.raises(ProcessingError) as caught:
        world.store.open(file.path)
    assert caught.value.reason == "file_not_found"


def test_callers_do_not_see_each_others_files(world):
    """They share a bucket, but no rows."""
    world.upload("a.csv", b"ann")
    bob = world.stores.of("bob")
    assert bob.listing() == ()
    with pytest.raises(ProcessingError):
        bob.find("a.csv")
    assert not bob.outputs.has("a.parquet")
    world.restart()
    assert [info.filename for info in world.store.listing()] == ["a.csv"]


# --- unfinished uploads ------------------------------------------------------------------------------


def begin(world, data=LARGE, *, resume=True, name="a.csv"):
    return world.store.uploads.begin(name, size=len(data), sha256=digest(data), overwrite=True, resume=resume)


def test_upload_is_resumed_after_a_crash_with_at_most_one_piece_sent_again(world):
    """What was acknowledged is there, and the digest is right."""
    part = begin(world)
    acknowledged = 0
    for start in range(0, PIECE + 8192, 8192):
        acknowledged = world.store.uploads.write(part, LARGE[start : start + 8192])
    world.restart()
    world.sweep()
    again = begin(world)
    assert again.size == acknowledged == PIECE
    world.store.uploads.write(again, LARGE[again.size :])
    assert world.store.uploads.finish(again, digest(LARGE)) == digest(LARGE)
    assert world.content("a.csv") == LARGE
    world.sweep()
    assert sum(world.objects().values()) == len(LARGE)


def test_slow_upload_is_durable_in_small_objects_that_its_pieces_replace(world):
    """Each report is true after a crash; the file has as many objects as any other."""
    part = begin(world)
    sent = 0
    for size in (10, 1000, 8192, 5 * 8192):
        world.now += 10
        assert world.store.uploads.write(part, LARGE[sent : sent + size]) == sent + size
        sent += size
    assert len(world.objects()) == 4
    world.restart()
    part = begin(world)
    assert part.size == sent
    world.store.uploads.write(part, LARGE[sent : sent + 2 * 8192])
    assert list(world.objects().values()) == [PIECE]
    world.store.uploads.write(part, LARGE[sent + 2 * 8192 :])
    world.store.uploads.finish(part, digest(LARGE))
    assert world.content("a.csv") == LARGE
    assert len(world.objects()) == 3


def test_saved_upload_is_resumed_without_reading_it_again(world, monkeypatch):
    """A connection that breaks often must not read gigabytes each time."""
    part = begin(world)
    world.store.uploads.write(part, LARGE[: PIECE + 5])
    world.store.uploads.save(part)
    monkeypatch.setattr(
        type(world.backend._bucket), "get", _counted(type(world.backend._bucket).get, counted := [])
    )
    again = begin(world)
    assert again.size == PIECE + 5
    assert len(counted) == 1
    world.store.uploads.write(again, LARGE[again.size :])
    assert world.store.uploads.finish(again, digest(LARGE))


def _counted(function, calls):
    def counting(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return counting


@pytest.mark.parametrize("change", ["content", "resume", "object"])
def test_upload_of_other_content_begins_anew(world, change):
    """So does one that is not to be resumed, and one whose bytes are gone."""
    part = begin(world)
    world.store.uploads.write(part, LARGE[: PIECE + 5])
    world.store.uploads.save(part)
    if change == "object":
        world.bucket.remove(list(world.objects()))
    data = LARGE[::-1] if change == "content" else LARGE
    world.restart()
    again = begin(world, data, resume=change != "resume")
    assert again.size == 0
    world.store.uploads.write(again, data)
    world.store.uploads.finish(again, None)
    world.sweep()
    assert world.content("a.csv") == data
    assert sum(world.objects().values()) == len(data)


def test_discarded_and_expired_uploads_leave_nothing(world):
    """Nor does one that was never to be resumed."""
    part = begin(world)
    world.store.uploads.write(part, LARGE)
    world.store.uploads.discard(part)
    part = begin(world)
    world.store.uploads.write(part, LARGE)
    world.store.uploads.save(part)
    other = world.store.uploads.begin_unannounced("b.csv", least=0)
    world.store.uploads.write(other, LARGE)
    world.store.uploads.save(other)
    world.now += 100
    world.sweep(keep_parts=10)
    assert world.objects() == {}
    assert world.catalog.objects.rows() == []


def test_open_upload_is_not_swept(world):
    """Neither by its age nor for want of a row."""
    part = begin(world)
    other = world.store.uploads.begin_unannounced("b.csv", least=0)
    for each in (part, other):
        world.store.uploads.write(each, LARGE)
    world.now += 10_000
    world.sweep(keep_parts=10)
    for each in (part, other):
        world.store.uploads.finish(each, digest(LARGE))
    assert world.content("a.csv") == world.content("b.csv") == LARGE


def test_upload_that_became_a_file_can_be_taken_back(world):
    """But not a later one of the same name."""
    part = world.upload("a.csv", b"one")
    world.store.uploads.take_back(part)
    assert world.store.listing() == ()
    part = world.upload("a.csv", b"one")
    world.upload("a.csv", b"one")
    world.store.uploads.take_back(part)
    assert world.content("a.csv") == b"one"


# --- outputs -----------------------------------------------------------------------------------------


def test_output_is_found_with_what_belongs_to_it(world):
    """By its own name, those of its texts and rejects; and removed with them."""
    assert not world.store.outputs.has("o-1.parquet")
    world.output("o-1.parquet", b"out", texts_parquet=b"texts", rejects_csv=b"rejects")
    assert world.store.outputs.has("o-1.parquet")
    assert world.content("o-1.parquet") == b"out"
    assert world.content("o-1.texts.parquet") == b"texts"
    assert world.content("o-1.rejects.csv") == b"rejects"
    assert world.store.outputs.find_stored("o-1.csv") == world.store.find("o-1.parquet")
    assert world.store.listing() == ()
    assert not world.store.is_upload(world.store.look_up("o-1.parquet"))
    world.output("o-1.csv", b"rendered")
    world.store.outputs.remove("o-1.parquet")
    assert not world.store.outputs.has("o-1.parquet")
    with pytest.raises(ProcessingError):
        world.store.find("o-1.csv")
    world.sweep()
    assert world.objects() == {}


def test_delete_of_a_rendering_leaves_its_output(world):
    """With its texts; they go with the output, as do the other renderings."""
    world.output("o-1.parquet", b"out", texts_parquet=b"texts", rejects_csv=b"rejects")
    world.output("o-1.csv", b"rendered")
    world.output("o-1.xlsx", b"rendered")
    world.store.delete("o-1.csv")
    assert world.content("o-1.texts.parquet") == b"texts"
    assert world.content("o-1.xlsx") == b"rendered"
    world.store.delete("o-1.parquet")
    world.sweep()
    assert world.objects() == {}


def test_upload_hides_the_output_whose_name_it_has(world):
    """Or that of a file that belongs to it; not that of another output, and not after its removal."""
    for name in ("o-1.parquet", "o-1.csv", "o-1.normalized.csv", "o-1.rejects.csv"):
        assert not world.store.outputs.is_hidden("o-1.parquet")
        world.upload(name, b"edited")
        assert world.store.outputs.is_hidden("o-1.parquet")
        assert not world.store.outputs.is_hidden("o-2.parquet")
        world.store.delete(name)
    assert not world.store.outputs.is_hidden("o-1.parquet")


def test_output_of_a_later_attempt_replaces_the_earlier_one(world):
    """An attempt that ends after another one, or never, leaves nothing."""
    late = world.store.outputs.begin("o-1.parquet")
    world.output("o-1.parquet", b"first")
    world.output("o-1.parquet", b"second")
    world.write_output(late, b"late")
    world.sweep()
    assert len(world.objects()) == 2
    world.store.outputs.discard(late)
    world.sweep()
    assert world.content("o-1.parquet") == b"second"
    assert len(world.objects()) == 1


def test_output_that_is_not_there_is_not_published(world):
    """The worker said that it was."""
    target = world.store.outputs.begin("o-1.parquet")
    with pytest.raises(ProcessingError):
        world.store.outputs.publish("o-1.parquet", target)
    assert not world.store.outputs.has("o-1.parquet")


def test_digest_of_an_output_is_remembered(world):
    """It is computed at the first download."""
    world.output("o-1.parquet", b"out")
    file = world.store.open(world.store.find("o-1.parquet"))
    file.stream.close()
    assert world.store.digest(file.path, file.version) is None
    world.store.record_digest(file.path, file.version, digest(b"out"))
    assert world.store.digest(file.path, file.version) == digest(b"out")


# --- sweeping ----------------------------------------------------------------------------------------


def test_sweep_removes_what_was_not_used_for_long(world):
    """Uploads and outputs have their own times; what belongs to an output stays with it."""
    world.upload("a.csv", b"a")
    world.upload("b.csv", b"b")
    world.output("o-1.parquet", b"out", texts_parquet=b"texts")
    world.now += 100
    world.store.find("b.csv")
    world.store.find("o-1.parquet")
    world.sweep(keep_uploads=50, keep_outputs=50)
    assert [info.filename for info in world.store.listing()] == ["b.csv"]
    assert world.content("o-1.texts.parquet") == b"texts"
    world.restart()
    world.now += 100
    world.sweep(keep_uploads=150, keep_outputs=1e6)
    assert [info.filename for info in world.store.listing()] == ["b.csv"]
    world.now += 100
    world.sweep(keep_uploads=50, keep_outputs=50)
    assert world.objects() == {}


def test_objects_without_a_row_are_removed_at_the_start(world):
    """What a crash has left between the bytes and the row."""
    world.upload("a.csv", b"a")
    for name in ("files/0123/000000", "outputs/0123/output.parquet", "probe/0123/object"):
        world.bucket.put(name, b"left")
    world.restart()
    world.sweep()
    assert list(world.objects().values()) == [1]
    assert world.content("a.csv") == b"a"


def test_nothing_is_removed_after_the_catalog_was_replaced(world):
    """A new catalog knows no objects, so all would be without a row."""
    world.upload("a.csv", b"a")
    world.catalog.close()
    for found in world.folder.glob("catalog.db*"):
        found.unlink()
    world.catalog.open()
    with pytest.raises(ObjectStoreError, match="replaced"):
        world.sweep()
    assert len(world.objects()) == 1


# --- quota -------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path, url):
    world = World(tmp_path / "data", url, quota=100)
    yield world
    world.catalog.close()


def refused(attempt):
    with pytest.raises(ProcessingError) as caught:
        attempt()
    return caught.value.reason == "storage_full"


def test_quota_counts_files_uploads_and_outputs(small):
    """Also after a restart, and gives the room back."""
    small.upload("a.csv", bytes(60))
    assert refused(lambda: small.upload("b.csv", bytes(41)))
    small.output("o-1.parquet", bytes(30))
    assert small.store.quota.left == 10
    small.restart()
    assert small.store.quota.left == 10
    part = small.store.uploads.begin("c.csv", size=10, sha256=None, overwrite=True, resume=False)
    assert small.store.quota.left == 0
    small.store.uploads.discard(part)
    small.upload("a.csv", bytes(70))
    assert small.store.quota.left == 0
    small.store.delete("a.csv")
    assert small.store.quota.left == 70
    assert refused(lambda: small.output("o-2.parquet", bytes(71)))
    small.sweep()
    assert small.store.quota.left == 70
    assert len(small.objects()) == 1


def test_kept_bytes_count_until_they_go(small):
    """So a job cannot be used to store more than is allowed."""
    small.upload("a.csv", bytes(40))
    version = small.store.look_up("a.csv").version
    small.store.versions.hold("a.csv", version)
    assert refused(lambda: small.upload("a.csv", bytes(61)))
    assert small.content("a.csv") == bytes(40)
    small.upload("a.csv", b"1" * 50)
    assert small.store.quota.left == 10
    assert small.store.versions.release(version)
    small.store.versions.drop(version)
    assert small.store.quota.left == 50
