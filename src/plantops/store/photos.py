"""Photos seen: a stat signature to md5, folder by folder, so that no photo is hashed twice; and what a look at each
gave, by md5, so that none is decoded twice, wherever it moves."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from itertools import islice

from plantops.store.database import Database

Signature = tuple[int, int, int]
_ASKED_AT_ONCE = 500


class Photos(Database):
    """The tables folder, photo, look. Paths of folders are relative to the project, those of photos to their folder."""

    def folders(self) -> dict[str, tuple[str, str]]:
        """folder: (digest of what it holds by stat, DVC's md5 of it)."""
        return {os.fsdecode(row[0]): (row[1], row[2]) for row in self._db.execute("SELECT * FROM folder")}

    def photos(self, folder: str) -> dict[str, tuple[Signature, str]]:
        """path: ((size in bytes, mtime in ns, inode), md5)."""
        rows = self._db.execute(
            "SELECT path, size, mtime_ns, inode, md5 FROM photo WHERE folder = ?", (os.fsencode(folder),)
        )
        return {os.fsdecode(path): ((size, mtime, inode), md5) for path, size, mtime, inode, md5 in rows}

    def md5s(self, folder: str) -> dict[str, str]:
        """path: md5."""
        rows = self._db.execute("SELECT path, md5 FROM photo WHERE folder = ?", (os.fsencode(folder),))
        return {os.fsdecode(path): md5 for path, md5 in rows}

    def remember_folder(
        self, folder: str, signature: str, md5: str, photos: Iterable[tuple[str, Signature, str]]
    ) -> None:
        """Replace what is known of a folder: path, stat signature and md5 of each photo. One transaction."""
        name = os.fsencode(folder)
        with self.transaction():
            self._db.execute("DELETE FROM folder WHERE path = ?", (name,))
            self._db.execute("INSERT INTO folder VALUES (?,?,?)", (name, signature, md5))
            self._db.executemany(
                "INSERT INTO photo VALUES (?,?,?,?,?,?)",
                ((name, os.fsencode(path), *stat, one) for path, stat, one in photos),
            )

    def forget_folders(self, folders: Collection[str]) -> None:
        """Forget folders and the photos in them."""
        with self.transaction():
            self._db.executemany("DELETE FROM folder WHERE path = ?", [(os.fsencode(one),) for one in folders])

    def looks(self, version: int, md5s: Iterable[str]) -> dict[str, str]:
        """md5: what a look of this ``version`` gave, of those of ``md5s`` that were looked at."""
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'look'").fetchone():
            return {}  # only read, and written by an older plantops
        asked, found = iter(md5s), dict[str, str]()
        while some := list(islice(asked, _ASKED_AT_ONCE)):
            marks = ",".join("?" * len(some))
            rows = f"SELECT md5, facts FROM look WHERE version = ? AND md5 IN ({marks})"
            found |= dict(self._db.execute(rows, (version, *some)).fetchall())
        return found

    def remember_looks(self, version: int, facts: Mapping[str, str]) -> None:
        """Add looks."""
        with self.transaction():
            rows = [(md5, version, text) for md5, text in facts.items()]
            self._db.executemany("INSERT OR REPLACE INTO look VALUES (?,?,?)", rows)

    def forget_looks(self, version: int) -> None:
        """Forget looks of photos that are nowhere any more, or of another ``version``, once there are more looks than
        photos: to tell which they are takes a sorted list of all photos."""
        with self.transaction():
            more = "(SELECT count(*) FROM look) > (SELECT count(*) FROM photo)"
            gone = "(version != ? OR md5 NOT IN (SELECT md5 FROM photo))"
            self._db.execute(f"DELETE FROM look WHERE {more} AND {gone}", (version,))
