"""Where a cache's files are: in a local folder or in object storage."""

import contextlib
import functools
import hashlib
import os
import pathlib
import re
import uuid

from keras_kd._src.cache.paths import absolute
from keras_kd._src.cache.paths import inside
from keras_kd._src.cache.paths import is_remote
from keras_kd._src.cache.paths import lacking


def storage_at(path, cache_dir=None):
    """The files of the cache at `path`, whether it is near or far.

    A path with a protocol, as `"s3://bucket/answers"`, is read through
    `fsspec`, which finds its credentials in the environment and in its own
    configuration files. Nothing but the manifest is fetched here.

    Args:
        path: the cache's folder: a local path, or a url that `fsspec` knows.
        cache_dir: the local folder for copies of remote files. Defaults to
            `keras_kd` in `$XDG_CACHE_HOME`, or else in `~/.cache`.

    Returns:
        A `LocalFolder` or a `RemoteFolder`.

    Raises:
        ValueError: no `fsspec`, or none of its drivers, for this protocol; or
            there is no manifest.

    Example:
    >>> storage_at("answers").name
    'answers'
    """
    if is_remote(path):
        return RemoteFolder(os.fspath(path), cache_dir)
    return LocalFolder(path)


class LocalFolder:
    """A cache's files in a local folder.

    Args:
        path: the folder.

    Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "index.npy").write_bytes(b"123")
    ...     LocalFolder(folder).sizes(["index.npy"])
    [3]
    """

    def __init__(self, path):
        self.name = os.fspath(path)
        self.folder = absolute(path)

    def local(self, relative_path):
        """The path of a file on this machine."""
        path = inside(self.folder, relative_path)
        if not path.is_file():
            raise ValueError(lacking(self.name, relative_path))
        return path

    def sizes(self, relative_paths):
        """The files' sizes in bytes, in a list."""
        return [self.local(path).stat().st_size for path in relative_paths]

    def dropping(self, relative_path):
        """A file that is wrong stays as it is: there is no other."""
        return contextlib.nullcontext()


class RemoteFolder:
    """A cache's files in object storage, fetched when they are first used.

    A copy is kept in a folder of `cache_dir` that is named after the url and
    the manifest's checksum: it serves the processes of this machine, now and
    later, until another cache is put at the url. Copies of caches that are no
    longer used are yours to delete, as are files whose names begin with
    `unfinished_` when no process is running: one was killed while it fetched.
    It holds nothing that is open, so that it goes to another process as it is.

    Args:
        url: the cache's folder, as `fsspec` names it.
        cache_dir: see `storage_at`, also for errors.

    Example:
    >>> import fsspec, tempfile
    >>> fsspec.filesystem("memory").pipe("/far/manifest.json", b"{}")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     storage = RemoteFolder("memory://far", folder)
    ...     storage.local("manifest.json").read_text()
    '{}'
    """

    def __init__(self, url, cache_dir=None):
        self.name = url.rstrip("/")
        files, root = self._connect()
        # Listings are kept by `fsspec`, also of what has changed since.
        files.invalidate_cache()
        with self._said("manifest.json"):
            manifest = files.cat_file(f"{root}/manifest.json")
        key = hashlib.sha256(self.name.encode() + b"\0" + manifest).hexdigest()
        stem = re.sub(r"\W", "_", self.name.rpartition("/")[2])
        self.folder = _copies(cache_dir) / f"{stem}_{key[:32]}"
        self._keep("manifest.json", lambda path: path.write_bytes(manifest))

    def local(self, relative_path):
        """The path of a file's copy, which is fetched if there is none yet."""
        path = inside(self.folder, relative_path)
        if not path.is_file():
            fetch = functools.partial(self._fetch, relative_path)
            self._keep(relative_path, fetch)
        return path

    def sizes(self, relative_paths):
        """The files' sizes in bytes, in a list, without fetching them.

        Of a copy, if there is one: it is what will be read.
        """
        copies = {path: inside(self.folder, path) for path in relative_paths}
        missing = [path for path in copies if not copies[path].is_file()]
        far = dict(zip(missing, self._far_sizes(missing)))
        return [
            far[path] if path in far else copies[path].stat().st_size
            for path in relative_paths
        ]

    @contextlib.contextmanager
    def dropping(self, relative_path):
        """Deletes a file's copy if it is found to be wrong, by a `ValueError`.

        It may have been fetched while the files at the url were replaced.
        """
        path = inside(self.folder, relative_path)
        try:
            yield
        except ValueError as error:
            if not path.is_file():
                raise
            # Windows keeps what is mapped.
            with contextlib.suppress(OSError):
                path.unlink()
            raise ValueError(
                f"{error} It was a copy that was looked at, and is dropped: "
                "open the cache again, which fetches the file anew (first "
                f"delete {str(path)!r}, should it still be there)."
            ) from error

    def _far_sizes(self, relative_paths):
        files, root = self._connect()
        with self._said("one of the files that its manifest names"):
            # In one call: object stores are asked for all of them at once.
            return files.sizes([f"{root}/{path}" for path in relative_paths])

    def _fetch(self, relative_path, copy):
        files, root = self._connect()
        with self._said(relative_path):
            files.get_file(f"{root}/{relative_path}", os.fspath(copy))
        expected = self._far_sizes([relative_path])[0]
        received = copy.stat().st_size
        if received != expected:
            raise ValueError(
                f"Fetching {relative_path} from {self.name} broke off. "
                f"Expected: {expected} bytes. Received: {received}. "
                "Open the cache again."
            )

    def _keep(self, relative_path, fill):
        """Makes a file whole or not at all, also if others make it, too."""
        path = inside(self.folder, relative_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        copy = path.with_name(f"unfinished_{uuid.uuid4().hex}")
        try:
            fill(copy)
            # A name that outlives a power cut must not stand for less.
            with copy.open("rb+") as written:
                os.fsync(written.fileno())
            os.replace(copy, path)
        finally:
            copy.unlink(missing_ok=True)

    def _connect(self):
        """The file system and the folder's path in it.

        Asked for anew each time: `fsspec` keeps one for each process, as its
        connections don't outlive a fork.
        """
        try:
            import fsspec

            return fsspec.url_to_fs(self.name)
        except (ImportError, ValueError) as error:
            raise ValueError(
                f"A cache in object storage is read through fsspec: "
                "`pip install fsspec`, and the driver that it names for this "
                f"protocol (s3fs, gcsfs, adlfs). Received: path={self.name!r} "
                f"({error})."
            ) from error

    @contextlib.contextmanager
    def _said(self, missing):
        try:
            yield
        except FileNotFoundError as error:
            raise ValueError(lacking(self.name, missing)) from error


def _copies(cache_dir):
    if cache_dir is None:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        cache_dir = pathlib.Path(base, "keras_kd")
    return absolute(cache_dir)
