"""The master key is on the disk, name and all, before anything can be sealed under what it wraps."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from events.keys import MasterKey


def test_a_new_master_key_is_synced_before_it_has_its_name_and_its_name_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gatebook.master-key"
    done: list[str] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        found = os.fstat(descriptor)
        what = "folder" if stat.S_ISDIR(found.st_mode) else f"{found.st_size} bytes"
        done.append(f"{what}, {'named' if path.exists() else 'unnamed'}")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)

    made = MasterKey.create_file(path)

    # 32 bytes are 44 characters of base64, and a line's end.
    assert done == ["45 bytes, unnamed", "folder, named"]
    assert MasterKey.from_file(path).check == made.check
