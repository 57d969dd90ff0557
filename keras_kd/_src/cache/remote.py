"""A cache's files, in a local folder or in object storage.

fsspec's own caches (`filecache::`, `simplecache::`) are not used for copies:
they download to the final name, so a process that is killed may leave half a
file, and a second process overwrites what the first has mapped into memory.
Nor do they check a file against the manifest.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import re

from keras_kd._src.atomic_write import atomic_write
from keras_kd._src.checked_json import check_size
from keras_kd._src.own_folder import inside


def storage_at(path, cache_dir=None):
    """A cache's files, local or remote; fetches a remote one's manifest."""
    if is_remote(path):
        return RemoteFolder(os.fspath(path), cache_dir)
    return LocalFolder(path)


class LocalFolder:
    """A cache's files in a local folder."""

    is_local = True

    def __init__(self, path):
        self.name = os.fspath(path)
        self.folder = absolute(path)

    def local(self, relative_path):
        """The path of a file on this machine."""
        path = inside(self.folder, relative_path)
        if not path.is_file():
            raise ValueError(_lacking(self.name, relative_path))
        return path

    def sizes(self, relative_paths):
        """The files' sizes in bytes, in a list."""
        return [self.local(path).stat().st_size for path in relative_paths]

    def drop(self, relative_path, error):
        """Does nothing: a damaged local file is no copy, and is kept."""


class RemoteFolder:
    """A cache's files in object storage, fetched when they are first used.

    Copies are kept in a folder of `cache_dir` that is named after the url and
    the manifest's checksum: all processes on this machine use them, now and
    later, until another cache is put at the url. An instance holds no open
    files, so it can be pickled for another process.
    """

    is_local = False

    def __init__(self, url, cache_dir=None):
        self.name = url.rstrip("/")
        files, root = self._connect()
        # `fsspec` keeps listings, also of folders that have changed since.
        files.invalidate_cache()
        with self._found("manifest.json"):
            about = f"The manifest of the cache {self.name!r} is none."
            check_size(files.size(f"{root}/manifest.json"), about)
            manifest = files.cat_file(f"{root}/manifest.json")
        key = hashlib.sha256(self.name.encode() + b"\0" + manifest).hexdigest()
        stem = re.sub(r"\W", "_", self.name.rpartition("/")[2])
        self.folder = _copies(cache_dir) / f"{stem}_{key[:32]}"
        self._keep("manifest.json", lambda path: path.write_bytes(manifest))

    def local(self, relative_path):
        """The path of a file's copy; fetches the file if there is none."""
        path = inside(self.folder, relative_path)
        if not path.is_file():
            fetch = functools.partial(self._fetch, relative_path)
            self._keep(relative_path, fetch)
        return path

    def sizes(self, relative_paths):
        """The files' sizes in bytes, in a list, without fetching them.

        Where there is a copy, its size is given, as the copy will be read.
        """
        copies = {path: inside(self.folder, path) for path in relative_paths}
        missing = [path for path in copies if not copies[path].is_file()]
        files, root = self._connect()
        with self._found("one of the files that its manifest names"):
            # In one call, so that an object store gets a single request.
            sizes = files.sizes([f"{root}/{path}" for path in missing])
        remote = dict(zip(missing, sizes))
        return [
            remote[path] if path in remote else copies[path].stat().st_size
            for path in relative_paths
        ]

    def drop(self, relative_path, error):
        """Deletes a file's copy that was found to be damaged.

        It may have been fetched while the files at the url were replaced.
        """
        path = inside(self.folder, relative_path)
        if not path.is_file():
            return
        # Windows doesn't delete a file that is mapped.
        with contextlib.suppress(OSError):
            path.unlink()
        raise ValueError(
            f"{error} That was a copy, which is dropped: open the cache "
            "again, which fetches the file anew (first delete "
            f"{str(path)!r}, should it still be there)."
        ) from error

    def _fetch(self, relative_path, copy):
        files, root = self._connect()
        with self._found(relative_path):
            files.get_file(f"{root}/{relative_path}", os.fspath(copy))

    def _keep(self, relative_path, fill):
        atomic_write(inside(self.folder, relative_path), fill, shared=True)

    def _connect(self):
        """The file system, and the folder's path in it.

        Looked up each time: `fsspec` keeps one for each process, as its
        connections don't survive a fork.
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
    def _found(self, missing):
        try:
            yield
        except FileNotFoundError as error:
            raise ValueError(_lacking(self.name, missing)) from error


def is_remote(path):
    """Whether a path is a url of object storage, like `s3://bucket/cache`."""
    return bool(re.match(r"[A-Za-z][\w+.-]+(::|://)", os.fspath(path)))


def absolute(path):
    """The absolute path, with `~` replaced by the user's folder.

    So a reader or its workers find the files from any working folder.
    """
    # Unlike `pathlib`, it leaves a `~name` alone where there is no such user.
    return pathlib.Path(os.path.expanduser(path)).absolute()


def local_path(path):
    """The absolute path of a folder to write to; refuses a url."""
    if is_remote(path):
        raise ValueError(
            "A cache is written to a local folder. Received: a url, "
            f"{os.fspath(path)!r}. Write it here, then copy the folder there."
        )
    return absolute(path)


def _lacking(name, missing):
    return (
        f"{name} has no {missing}. Expected: a folder that "
        "`keras_kd.cache.write` or `keras_kd.cache.merge` has finished, with "
        f"all its files. Received: path={name!r}. Make the same call of "
        "`write` again, which continues where it stopped, or copy the whole "
        "folder."
    )


def _copies(cache_dir):
    if cache_dir is None:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        cache_dir = pathlib.Path(base, "keras_kd")
    return absolute(cache_dir)
