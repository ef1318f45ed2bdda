"""Archives, recognised by how they begin."""

from __future__ import annotations

ZSTD = b"\x28\xb5\x2f\xfd"
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", ZSTD)
_USTAR = slice(257, 262)
_CHECKSUM = slice(148, 156)


def is_packed(head: bytes) -> bool:
    """Do these first bytes (512 or more) begin a tar, or something compressed? No text does."""
    return head.startswith(COMPRESSED) or head[_USTAR] == b"ustar" or _is_old_tar(head)


def _is_old_tar(head: bytes) -> bool:
    """A tar header from before POSIX: its checksum is right."""
    if len(head) < 512 or not head[0]:
        return False
    try:
        told = int(head[_CHECKSUM].strip(b" \0"), 8)
    except ValueError:
        return False
    return told == sum(head[:148]) + 8 * 32 + sum(head[156:512])
