"""What is in exported files, for tests."""

from pathlib import Path


def tensor_bytes(path: Path) -> int:
    """Bytes of the tensors in a safetensors file: what is behind its header."""
    content = path.read_bytes()
    return len(content) - 8 - int.from_bytes(content[:8], "little")
