# Copyright 2026 The segnet_ros authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Files that are written whole or not at all, and write errors that name them."""

from collections.abc import Iterator
from contextlib import contextmanager
import errno
import os
from pathlib import Path
import sqlite3

STREAMS = ('/dev', '/dev/fd', '/proc/self/fd')


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """
    Yield a file next to `path` to write; at the end of the block it replaces the one at `path`.

    Until then, and after an error or a kill, readers of `path` find the older file or none.
    Missing folders are created. A pipe or a device, such as /dev/stdout, is yielded itself.
    Errors in the block name `path`.
    """
    path = Path(path)
    if is_stream(path):
        with errors_named(path):
            yield path
        return
    if path.is_symlink():  # keep the link
        path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(f'{path}.part')
    try:
        with errors_named(path):
            yield part
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: str | Path, content: bytes):
    """Write a file whole or not at all; an OSError names it."""
    with whole_file(path) as part, part.open(writing_mode(path) + 'b') as file:
        file.write(content)


def writing_mode(path: str | Path) -> str:
    """Return the mode to open whole_file's file with; a stream may be a file that >> adds to."""
    return 'a' if is_stream(path) else 'w'


def is_stream(path: str | Path) -> bool:
    """Tell whether a path is a pipe or a device, or standard output, whatever file that is."""
    path = Path(path)
    # /dev/stdout may be a regular file, but one that the shell has open.
    return str(path.parent) in STREAMS or path.exists() and not (path.is_file() or path.is_dir())


@contextmanager
def errors_named(path: str | Path) -> Iterator[None]:
    """Make OSErrors and sqlite3 errors name the file; a full disk's do not by themselves."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(errno.EIO, str(error), str(path)) from error
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
