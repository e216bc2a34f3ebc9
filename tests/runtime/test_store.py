"""The store gives back what was put, and whatever goes wrong is a counted miss."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delegraph.core.errors import InvalidArgument
from delegraph.core.runtime import store as store_module
from delegraph.core.runtime.key import Key
from delegraph.core.runtime.store import PAYLOAD_ALIGNMENT, Count, Entry, Store

KEY = Key("plan", {"driver": "24.1", "model": "9f86"})
PAYLOAD = b"what was compiled"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def put(store: Store, key: Key = KEY, payload: bytes = PAYLOAD) -> Entry:
    entry = store.put(key, payload)
    assert entry is not None
    return entry


def temporaries(store: Store) -> list[Path]:
    assert store.directory is not None
    return [path for path in store.directory.rglob(".*")]


class TestRoundTrip:
    def test_what_was_put_is_got(self, store: Store) -> None:
        put(store)
        entry = store.get(KEY)
        assert entry is not None
        assert (entry.key, entry.payload.tobytes(), entry.size_bytes) == (KEY, PAYLOAD, len(PAYLOAD))
        assert store.counters == {Count.PUT: 1, Count.HIT: 1}

    def test_another_process_gets_it(self, store: Store) -> None:
        put(store)
        assert store.directory is not None
        entry = Store(store.directory).get(KEY)
        assert entry is not None and entry.payload.tobytes() == PAYLOAD

    def test_nothing_was_put(self, store: Store) -> None:
        assert store.get(KEY) is None
        assert store.counters == {Count.MISS_ABSENT: 1}

    def test_pieces_are_joined(self, store: Store) -> None:
        array = np.arange(3, dtype=np.int16)
        entry = store.put(KEY, b"ab", bytearray(b"cd"), memoryview(b"ef"), array, b"")
        assert entry is not None and entry.payload.tobytes() == b"abcdef" + array.tobytes()

    def test_the_payload_may_be_empty(self, store: Store) -> None:
        for pieces in ((), (b"",), (np.zeros((0, 3)),)):
            entry = store.put(KEY, *pieces)
            assert entry is not None and entry.payload.shape == (0,)

    def test_a_piece_is_contiguous(self, store: Store) -> None:
        with pytest.raises(InvalidArgument, match="payload: expected contiguous bytes"):
            store.put(KEY, np.arange(4)[::2])
        with pytest.raises(InvalidArgument, match="found str"):
            store.put(KEY, "text")  # type: ignore[arg-type]

    @pytest.mark.parametrize("name_size", [1, 40, 63, 64, 65, 1000])
    def test_the_payload_is_an_aligned_read_only_view(self, store: Store, name_size: int) -> None:
        entry = put(store, Key("plan", {"n" * name_size: 0}))
        assert entry.payload.ctypes.data % PAYLOAD_ALIGNMENT == 0
        assert (entry.path.stat().st_size - entry.size_bytes) % PAYLOAD_ALIGNMENT == 0
        assert not entry.payload.flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            entry.payload[0] = 0
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            entry.payload.flags.writeable = True

    def test_a_view_outlives_the_entry(self, store: Store) -> None:
        old = put(store).payload[5:8]
        put(store, payload=b"something else")
        assert store.remove(KEY)
        assert old.tobytes() == PAYLOAD[5:8]

    def test_put_replaces(self, store: Store) -> None:
        put(store)
        assert put(store, payload=b"new").payload.tobytes() == b"new"
        assert len(list(store.entries())) == 1

    def test_remove(self, store: Store) -> None:
        put(store)
        assert store.remove(KEY)
        assert not store.remove(KEY)
        assert store.get(KEY) is None

    def test_entries(self, store: Store) -> None:
        other = Key("pack", {"tensor": b"\xff", "layout": 3})
        put(store)
        put(store, other, b"abc")
        assert {info.key for info in store.entries()} == {KEY, other}
        (info,) = store.entries("pack")
        assert (info.key, info.size_bytes) == (other, 3)
        assert abs(info.stored_ns - time.time_ns()) < 60e9
        assert list(store.entries("artifact")) == []

    def test_entries_leave_out_what_is_none(self, store: Store) -> None:
        path = put(store).path
        (path.parent / "notes.txt").write_text("not an entry")
        (path.parent / ("0" * 64)).write_bytes(path.read_bytes())
        (path.parent / ".unfinished").write_bytes(b"")
        assert [info.path for info in store.entries()] == [path]


class TestExplainMiss:
    def test_names_what_changed(self, store: Store) -> None:
        put(store)
        explanation = store.explain_miss(Key("plan", {"driver": "24.2", "model": "9f86"}))
        assert [change.name for change in explanation.changes] == ["driver"]
        assert explanation.nearest is not None and explanation.nearest.key == KEY
        assert str(explanation) == "plan: driver: '24.1' -> '24.2'"

    def test_compares_with_the_nearest(self, store: Store) -> None:
        put(store)
        put(store, Key("plan", {"driver": "23.0", "model": "aaaa"}))
        put(store, Key("artifact", {"driver": "24.1", "model": "aaaa"}))
        explanation = store.explain_miss(Key("plan", {"driver": "24.1", "model": "aaaa", "threads": 2}))
        assert len(explanation.changes) == 2

    def test_components_come_and_go(self, store: Store) -> None:
        put(store)
        explanation = store.explain_miss(Key("plan", {"model": "9f86", "threads": 2}))
        assert str(explanation) == "plan: driver: '24.1' -> none, threads: none -> 2"

    def test_long_values_are_cut(self, store: Store) -> None:
        put(store)
        explanation = store.explain_miss(Key("plan", {"driver": "24.1", "model": b"\xab" * 1000}))
        assert len(str(explanation)) < 100

    def test_nothing_to_compare_with(self, store: Store) -> None:
        assert str(store.explain_miss(KEY)) == "plan: no entry of this kind is stored"
        put(store)
        assert str(store.explain_miss(KEY)) == "plan: the entry is stored"
        assert "the cache is off" in str(Store("off").explain_miss(KEY))


def expect_damage(store: Store, path: Path, *expected: Count) -> None:
    """The entry is a miss for one of the reasons, and gone."""
    before = store.counters
    assert store.get(KEY) is None
    happened = {count for count, n in store.counters.items() if n > before.get(count, 0)}
    assert Count.REMOVED_DAMAGED in happened
    assert happened - {Count.REMOVED_DAMAGED} <= set(expected) and len(happened) == 2
    assert not os.path.lexists(path)
    put(store)


class TestDamage:
    def test_a_flipped_bit_in_any_byte_is_a_miss(self, store: Store) -> None:
        path = put(store).path
        whole = path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
            if at < 8:
                expect_damage(store, path, Count.MISS_FOREIGN)
            elif at < 12:
                expect_damage(store, path, Count.MISS_VERSION)
            elif at < len(whole) - len(PAYLOAD):
                expect_damage(store, path, Count.MISS_DAMAGED_HEADER, Count.MISS_TRUNCATED)
            else:
                expect_damage(store, path, Count.MISS_DAMAGED_PAYLOAD)

    def test_every_length_but_its_own_is_a_miss(self, store: Store) -> None:
        path = put(store).path
        whole = path.read_bytes()
        for size in range(len(whole)):
            path.write_bytes(whole[:size])
            expect_damage(store, path, Count.MISS_TRUNCATED)
        path.write_bytes(whole + b"\0")
        expect_damage(store, path, Count.MISS_TRUNCATED)

    def test_the_entry_of_another_key(self, store: Store) -> None:
        path = put(store).path
        path.write_bytes(put(store, Key("plan", {"driver": "24.2"})).path.read_bytes())
        expect_damage(store, path, Count.MISS_WRONG_KEY)

    def test_another_file(self, store: Store) -> None:
        path = put(store).path
        path.write_bytes(b"\x7fELF" * 100)
        expect_damage(store, path, Count.MISS_FOREIGN)

    def test_a_symbolic_link(self, store: Store, tmp_path: Path) -> None:
        path = put(store).path
        elsewhere = tmp_path / "elsewhere"
        path.rename(elsewhere)
        path.symlink_to(elsewhere)
        expect_damage(store, path, Count.MISS_NOT_PRIVATE)
        assert elsewhere.exists()

    def test_a_fifo(self, store: Store) -> None:
        path = put(store).path
        path.unlink()
        os.mkfifo(path)
        expect_damage(store, path, Count.MISS_NOT_PRIVATE)

    def test_a_file_that_others_can_write_to(self, store: Store) -> None:
        path = put(store).path
        path.chmod(0o622)
        expect_damage(store, path, Count.MISS_NOT_PRIVATE)

    def test_a_file_of_another_user(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        put(store)
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert store.get(KEY) is None
        assert store.counters[Count.MISS_NOT_PRIVATE] == 1

    def test_what_cannot_be_removed_stays_a_miss(self, store: Store) -> None:
        path = put(store).path
        path.unlink()
        path.mkdir()
        assert store.get(KEY) is None
        assert store.counters[Count.NOT_REMOVED] == 1


class FaultyOs:
    """The os module, but for one function whose n-th call fails."""

    def __init__(self, name: str, n: int, code: int = errno.EIO) -> None:
        self._name, self._left, self._code = name, n, code
        self.has_failed = False

    def __getattr__(self, name: str) -> Any:
        function = getattr(os, name)
        return self._call(function) if name == self._name else function

    def _call(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                self.has_failed = True
                raise OSError(self._code, os.strerror(self._code))
            return function(*args, **options)

        return call


class TestFaults:
    @pytest.mark.parametrize("had_entry", [False, True])
    @pytest.mark.parametrize("name", ["mkdir", "open", "write", "fsync", "close", "replace"])
    def test_a_failing_call_of_put_keeps_what_was(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, name: str, had_entry: bool
    ) -> None:
        for n in range(1, 20):
            store.remove(KEY)
            if had_entry:
                put(store)
            elif store.directory is not None and name == "mkdir":
                for folder in sorted(store.directory.rglob("*"), reverse=True):
                    folder.rmdir()
            failures = store.counters.get(Count.PUT_FAILED, 0)
            faulty = FaultyOs(name, n)
            with monkeypatch.context() as patch:
                patch.setattr(store_module, "os", faulty)
                entry = store.put(KEY, b"new", b" ", b"payload")
            if not faulty.has_failed:
                assert entry is not None and entry.payload.tobytes() == b"new payload"
                assert n > 1
                break
            assert temporaries(store) == []
            kept = store.get(KEY)
            if store.counters.get(Count.PUT_FAILED, 0) == failures:  # it was put, and reading it back failed
                assert entry is None and kept is not None and kept.payload.tobytes() == b"new payload"
            elif had_entry:
                assert entry is None and kept is not None and kept.payload.tobytes() == PAYLOAD
            else:
                assert entry is None and kept is None
        else:
            pytest.fail("put never succeeded")

    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            (errno.ENOSPC, Count.PUT_NO_SPACE),
            (errno.EDQUOT, Count.PUT_NO_SPACE),
            (errno.EROFS, Count.PUT_READ_ONLY),
            (errno.EACCES, Count.PUT_READ_ONLY),
            (errno.EIO, Count.PUT_FAILED),
        ],
    )
    def test_each_failure_has_its_counter(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, code: int, expected: Count
    ) -> None:
        monkeypatch.setattr(store_module, "os", FaultyOs("write", 1, code))
        assert store.put(KEY, PAYLOAD) is None
        assert store.counters == {expected: 1}

    def test_an_entry_that_cannot_be_read_now_is_kept(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        put(store)
        with monkeypatch.context() as patch:
            patch.setattr(store_module, "os", FaultyOs("open", 1, errno.EMFILE))
            assert store.get(KEY) is None
        assert store.counters[Count.MISS_UNREADABLE] == 1
        assert store.get(KEY) is not None

    def test_short_writes_are_continued(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        class SlowOs(FaultyOs):
            def _call(self, function: Callable[..., Any]) -> Callable[..., Any]:
                return lambda descriptor, data: function(descriptor, data[:3])

        with monkeypatch.context() as patch:
            patch.setattr(store_module, "os", SlowOs("write", 0))
            put(store)
        entry = store.get(KEY)
        assert entry is not None and entry.payload.tobytes() == PAYLOAD

    def test_an_interrupt_leaves_nothing_behind(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(_: int) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, "fsync", interrupt)
            store.put(KEY, PAYLOAD)
        assert temporaries(store) == []
        assert store.get(KEY) is None


WRITER = """
import sys
import numpy as np
from delegraph.core.runtime.key import Key
from delegraph.core.runtime.store import Count, Store
store, me = Store(sys.argv[1]), int(sys.argv[2])
keys = [Key("plan", {"n": n}) for n in range(3)]
for turn in range(40):
    key = keys[turn % 3]
    store.put(key, np.full(300_000 + me, me, np.uint8))
    entry = store.get(key)
    if entry is not None:
        writer = int(entry.payload[0])
        assert entry.size_bytes == 300_000 + writer and (entry.payload == writer).all()
    if turn % 7 == me:
        store.remove(key)
assert set(store.counters) <= {Count.PUT, Count.HIT, Count.MISS_ABSENT}, store.counters
"""


class TestConcurrency:
    def test_processes_share_a_store(self, store: Store) -> None:
        env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(store.directory), str(me)],
                env=env,
                stderr=subprocess.PIPE,
                text=True,
            )
            for me in range(4)
        ]
        errors = [writer.communicate()[1] for writer in writers]
        assert [writer.returncode for writer in writers] == [0] * 4, "\n".join(errors)
        assert temporaries(store) == []
        for n in range(3):
            entry = store.get(Key("plan", {"n": n}))
            assert entry is None or (entry.payload == entry.payload[0]).all()

    def test_threads_share_a_store(self, store: Store) -> None:
        def work() -> None:
            for _ in range(50):
                put(store)
                store.get(KEY)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.counters == {Count.PUT: 200, Count.HIT: 200}


def expect_off(store: Store, reason: str) -> None:
    assert not store.enabled
    assert reason in store.reason
    assert store.put(KEY, PAYLOAD) is None
    assert store.get(KEY) is None
    assert not store.remove(KEY)
    assert list(store.entries()) == []
    assert store.counters == {Count.PUT_OFF: 1, Count.MISS_OFF: 1}


class TestDirectory:
    def test_is_made_private(self, tmp_path: Path) -> None:
        old = os.umask(0)
        try:
            store = Store(tmp_path / "cache")
            path = put(store).path
        finally:
            os.umask(old)
        assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert path.parent.parent.stat().st_mode & 0o777 == 0o700
        assert path.stat().st_mode & 0o777 == 0o600

    def test_comes_from_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DELEGRAPH_CACHE_DIR", str(tmp_path / "chosen"))
        assert Store().directory == tmp_path / "chosen"

    def test_is_the_users_cache_by_default(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        for value in (None, ""):
            monkeypatch.delenv("DELEGRAPH_CACHE_DIR", raising=False)
            if value is not None:
                monkeypatch.setenv("DELEGRAPH_CACHE_DIR", value)
            store = Store()
            assert store.enabled and store.directory is not None
            assert store.directory.name == "delegraph"

    def test_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        expect_off(Store("off"), "the cache is off, as DELEGRAPH_CACHE_DIR or the caller asked")
        monkeypatch.setenv("DELEGRAPH_CACHE_DIR", "off")
        expect_off(Store(), "the cache is off")

    @pytest.mark.parametrize("mode", [0o720, 0o702, 0o1777])
    def test_that_others_can_write_to_is_refused(self, tmp_path: Path, mode: int) -> None:
        tmp_path.chmod(mode)
        expect_off(Store(tmp_path), f"other users can write to {tmp_path}; chmod go-w {tmp_path}")
        assert list(tmp_path.iterdir()) == []

    def test_below_one_that_others_can_write_to_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "open").mkdir()
        (tmp_path / "open").chmod(0o777)
        expect_off(Store(tmp_path / "open" / "mine"), f"other users can write to {tmp_path / 'open'}")

    def test_below_a_sticky_one_of_root_is_fine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "tmp").mkdir()
        (tmp_path / "tmp").chmod(0o1777)
        sticky = tmp_path / "tmp"
        lstat = os.lstat

        def lstat_as_if_root_owned_it(path: Path) -> os.stat_result:
            status = lstat(path)
            return os.stat_result([*status[:4], 0, *status[5:]]) if path == sticky else status

        monkeypatch.setattr(os, "lstat", lstat_as_if_root_owned_it)
        assert Store(sticky / "mine").reason == ""
        expect_off(Store(sticky), "other users can write to")

    def test_of_another_user_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        me = os.getuid()
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
        expect_off(Store(tmp_path), f"belongs to another user (uid {me})")

    def test_behind_a_link_of_ours_is_fine(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(Path("..") / tmp_path.name / "real")
        put(Store(tmp_path / "link" / "cache"))
        assert (tmp_path / "real" / "cache").is_dir()

    def test_behind_a_link_that_others_can_replace_is_refused(self, tmp_path: Path) -> None:
        """The link leads to a safe place, but passes an unsafe one."""
        (tmp_path / "real").mkdir()
        (tmp_path / "open").mkdir()
        (tmp_path / "open" / "second").symlink_to(tmp_path / "real")
        (tmp_path / "first").symlink_to(tmp_path / "open" / "second")
        (tmp_path / "open").chmod(0o777)
        expect_off(Store(tmp_path / "first"), f"other users can write to {tmp_path / 'open'}")

    def test_that_is_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        expect_off(Store(tmp_path / "file"), "can't be used: File exists")

    def test_that_is_a_circle_of_links_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to(tmp_path / "b")
        (tmp_path / "b").symlink_to(tmp_path / "a")
        expect_off(Store(tmp_path / "a"), "can't be used")

    def test_that_went_away_costs_only_the_entries(self, store: Store) -> None:
        put(store)
        assert store.directory is not None
        for path in sorted(store.directory.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        store.directory.rmdir()
        assert store.get(KEY) is None
        assert store.put(KEY, PAYLOAD) is None
        assert store.counters[Count.PUT_FAILED] == 1


class TestFileDigest:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "model.tflite"
        path.write_bytes(b"a model")
        return path

    @pytest.fixture
    def later(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Long after the file was written."""
        monkeypatch.setattr(time, "time_ns", lambda: 2**62)

    @pytest.mark.usefixtures("later")
    def test_is_computed_once_for_all_processes(self, store: Store, file: Path) -> None:
        expected = hashlib.sha256(b"a model").digest()
        assert store.file_digest(file) == expected
        assert store.file_digest(file) == expected
        assert store.counters[Count.DIGEST_COMPUTED] == 1
        assert store.directory is not None
        other = Store(store.directory)
        assert other.file_digest(str(file)) == expected
        assert other.counters == {Count.HIT: 1, Count.DIGEST_REMEMBERED: 1}

    @pytest.mark.usefixtures("later")
    def test_follows_a_change_of_equal_size(self, store: Store, file: Path) -> None:
        store.file_digest(file)
        before = file.stat()
        file.write_bytes(b"A MODEL")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # ctime still tells
        assert file.stat().st_ctime_ns != before.st_ctime_ns
        assert store.file_digest(file) == hashlib.sha256(b"A MODEL").digest()

    def test_of_a_file_just_written_is_not_remembered(self, store: Store, file: Path) -> None:
        for _ in range(2):
            assert store.file_digest(file) == hashlib.sha256(b"a model").digest()
        assert store.counters[Count.DIGEST_COMPUTED] == 2

    @pytest.mark.usefixtures("later")
    def test_of_a_file_that_changes_meanwhile_is_not_remembered(
        self, store: Store, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        digest = hashlib.file_digest

        def digest_and_change(opened: Any, name: str) -> Any:
            result = digest(opened, name)
            file.write_bytes(b"a longer model")
            return result

        with monkeypatch.context() as patch:
            patch.setattr(hashlib, "file_digest", digest_and_change)
            store.file_digest(file)
        assert list(store.entries("file-digest")) == []

    @pytest.mark.usefixtures("later")
    def test_is_remembered_in_memory_when_the_store_is_off(self, file: Path) -> None:
        store = Store("off")
        assert store.file_digest(file) == store.file_digest(file) == hashlib.sha256(b"a model").digest()
        assert store.counters[Count.DIGEST_COMPUTED] == 1

    def test_of_a_missing_file_is_the_callers_error(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            store.file_digest(tmp_path / "none")


LOCKER = """
import sys, time
from delegraph.core.runtime.store import Store
with Store(sys.argv[1]).locked("calibration", 5) as is_locked:
    print(is_locked, flush=True)
    time.sleep(60)
"""


class TestLock:
    def test_keeps_other_processes_out_until_they_die(self, store: Store) -> None:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", LOCKER, str(store.directory)]
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None and other.stdout.readline() == "True\n"
            with store.locked("calibration", 0.05) as is_locked:
                assert not is_locked
            with store.locked("another", 0.05) as is_locked:
                assert is_locked
            other.kill()
        with store.locked("calibration", 10) as is_locked:
            assert is_locked

    def test_is_let_go_of_when_the_block_fails(self, store: Store) -> None:
        with pytest.raises(ZeroDivisionError), store.locked("calibration", 1):
            raise ZeroDivisionError
        with store.locked("calibration", 0.05) as is_locked:
            assert is_locked

    def test_is_not_had_where_nothing_can_be_kept(self, tmp_path: Path) -> None:
        with Store("off").locked("calibration", 1) as is_locked:
            assert not is_locked
        store = Store(tmp_path)
        (tmp_path / "locks").write_text("in the way")
        with store.locked("calibration", 1) as is_locked:
            assert not is_locked
