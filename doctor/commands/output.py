"""Printing a document: JSON whole and at once, or its text view."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import msgspec


def print_json(document: Mapping[str, Any]) -> None:
    """One document on stdout, complete, UTF-8 whatever the locale says."""
    data = msgspec.json.format(msgspec.json.encode(document), indent=1)
    sys.stdout.flush()
    sys.stdout.buffer.write(data + b"\n")
    sys.stdout.buffer.flush()
