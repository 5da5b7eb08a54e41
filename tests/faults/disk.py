"""A disk that can be filled and that fails: an ext4 file system in a file, behind a loop device. Takes the right to mount."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path


class Disk:
    """`image` is mounted at `folder`; an error turns it read-only, as the kernel does with a real one."""

    def __init__(self, image: Path, folder: Path, size_mb: int) -> None:
        self._image, self._folder = image, folder
        with image.open("wb") as handle:
            handle.truncate(size_mb * 1_000_000)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True)
        self._mount()
        folder.chmod(0o700)

    def fill(self) -> Path:
        """A file that takes all room there is; remove it to have room again."""
        path, block = self._folder / "ballast", b"\0" * 65536
        with path.open("wb", buffering=0) as handle, contextlib.suppress(OSError):
            while room := shutil.disk_usage(self._folder).free:
                handle.write(block[:room])
        return path

    def fail(self) -> None:
        """An error of the file system: nothing can be written any more, not even to files that are open."""
        argv = ["findmnt", "--noheadings", "--output", "SOURCE", str(self._folder)]
        device = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
        Path(f"/sys/fs/ext4/{Path(device).name}/trigger_fs_error").write_text("1")

    def repair(self) -> None:
        """What somebody does then: unmount, check, mount. Nothing may have files open here."""
        subprocess.run(["umount", str(self._folder)], check=True)
        subprocess.run(["e2fsck", "-f", "-y", str(self._image)], capture_output=True, check=False)
        self._mount()

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self._folder)], check=True)
        self._image.unlink()

    def _mount(self) -> None:
        argv = ["mount", "-o", "loop,errors=remount-ro", str(self._image), str(self._folder)]
        subprocess.run(argv, check=True)
