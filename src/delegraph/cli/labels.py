"""Class names: from a file of the user's, or from the label files that come inside a model."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from delegraph.core.errors import InvalidArgument

MAX_BYTES = 1 << 24
_NUMBERED = re.compile(r"\s*(\d+)(?:\s*[:,;\t]\s*|\s+)(\S.*)")


@dataclass(frozen=True)
class Labels:
    """Names of classes by index. source: where they are from, for messages."""

    source: str
    names: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return max(self.names, default=-1) + 1

    def get(self, index: int) -> str | None:
        return self.names.get(index)


def parse_labels(text: str, source: str) -> Labels:
    """Labels in text: one a line, the first is class 0; or ``index label`` on every line."""
    lines = [line.strip() for line in text.removeprefix("\ufeff").splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    numbered = [_NUMBERED.fullmatch(line) for line in lines if line]
    found = {int(match[1]): match[2].strip() for match in numbered if match}
    if found and len(found) == len(numbered):
        return Labels(source, found)
    return Labels(source, {i: line for i, line in enumerate(lines) if line})


def read_labels(path: str) -> Labels:
    """The labels in a text file.

    Raises:
        OSError: the file can't be read.
        InvalidArgument: it holds no labels.
    """
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    advice = "a label file is text with one class name a line, the first for class 0"
    if len(data) > MAX_BYTES or b"\0" in data:
        raise InvalidArgument(path, "a text file of labels", f"{len(data)} bytes that are no text", advice)
    labels = parse_labels(data.decode(errors="replace"), path)
    if not labels.names:
        raise InvalidArgument(path, "at least one label", "none", advice)
    return labels


def embedded_labels(model_path: str, files: Sequence[tuple[str, str]]) -> Labels | None:
    """Labels from the zip archive behind a model's bytes, None if it has none of these files.

    files: (name, locale); one without a locale, or English, is preferred.
    Raises:
        ValueError: the archive is damaged; says how.
    """
    if not files or not zipfile.is_zipfile(model_path):
        return None
    name = min(files, key=lambda file: (file[1] not in ("", "en"), file[1]))[0]
    try:
        with zipfile.ZipFile(model_path) as archive:
            with archive.open(name) as file:
                data = file.read(MAX_BYTES)
    except KeyError:
        return None
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        NotImplementedError,  # zipfile raises it for a compression that it does not know
        RuntimeError,
        OSError,
        EOFError,
    ) as exc:
        raise ValueError(f"{name} in the model: {exc}") from exc
    except Exception as exc:  # zlib.error, lzma.LZMAError: whatever a decompressor says of damaged data
        raise ValueError(f"{name} in the model: {type(exc).__name__}: {exc}") from exc
    labels = parse_labels(data.decode(errors="replace"), f"{os.path.basename(name)} in the model")
    return labels if labels.names else None
