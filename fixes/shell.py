"""undo.sh: takes a journal back with nothing but a POSIX shell, for when the tool is gone.

The script is the same in every journal; it runs the sections `undo/NNNN.sh` from the last to the first. A section is
written before its action begins and looks at the world itself, so it is right whether the action happened or not.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

SCRIPT = r"""#!/bin/sh
# Takes back what skyt1-doctor changed in this journal, without skyt1-doctor. Needs sha256sum (or shasum).
# Files that were changed since are left alone and named; run it again after looking at them.
set -u
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
left=0

digest() {
    if [ ! -e "$1" ]; then echo absent
    elif command -v sha256sum >/dev/null 2>&1; then sha256sum <"$1" | cut -d' ' -f1
    else shasum -a 256 <"$1" | cut -d' ' -f1; fi
}

# restore PATH BEFORE AFTER NUMBER: the content before an edit; `before_NUMBER` prints it.
restore() {
    now=$(digest "$1")
    [ "$now" = "$2" ] && return 0
    if [ "$now" != "$3" ]; then echo "changed since, left alone: $1" >&2; left=1; return 0; fi
    if [ "$2" = absent ]; then
        put "$1" "$here/quarantine/$4-undone"; echo "taken away: $1"; return 0
    fi
    if cp -p -- "$1" "$1.undo" && "before_$4" "$1" >"$1.undo" && [ "$(digest "$1.undo")" = "$2" ]; then
        mv -- "$1.undo" "$1"; echo "restored: $1"
    else
        rm -f -- "$1.undo"; echo "could not be restored: $1" >&2; left=1
    fi
}

# put FROM TO: a rename that must not fail unseen.
put() { mkdir -p -- "${2%/*}" && mv -- "$1" "$2" || { echo "could not be moved: $1" >&2; left=1; }; }

# rows WAY LIST: the lines of a list that go that way.
rows() { grep "^$1	" "$2" || :; }

# moves LIST: what came in goes back to its staging place, then what went out comes back. When something that came in
# was written to since, all of the list is left alone: half of a package would be worse than either whole.
moves() {
    [ -f "$1" ] || return 0
    edited=
    while IFS='	' read -r _ target staged _; do
        if [ -z "$target" ] || [ -e "$staged" ] || [ -L "$staged" ]; then continue; fi
        case $target in */__pycache__/*.pyc) continue ;; esac  # Python writes it anew, unasked
        if [ ! -L "$target" ] && [ "$target" -nt "$1" ]; then edited=$target; break; fi
    done <<LIST
$(rows in "$1")
LIST
    if [ -n "$edited" ]; then echo "changed since, left alone: $edited, and all that came with it" >&2; left=1; return 0; fi
    while IFS='	' read -r _ target staged _; do
        if [ -z "$target" ] || [ -e "$staged" ] || [ -L "$staged" ]; then continue; fi
        if [ -e "$target" ] || [ -L "$target" ]; then put "$target" "$staged"; fi
        case $target in *.py) stem=${target##*/}; rm -f -- "${target%/*}/__pycache__/${stem%.py}".*.pyc ;; esac
    done <<LIST
$(rows in "$1")
LIST
    while IFS='	' read -r _ target kept; do
        if [ -z "$target" ]; then continue; fi
        if [ ! -e "$kept" ] && [ ! -L "$kept" ]; then continue; fi
        case $target in */__pycache__/*.pyc) rm -f -- "$target" ;; esac
        if [ -e "$target" ] || [ -L "$target" ]; then
            echo "made since, left alone: $target; what was there is $kept" >&2; left=1; continue
        fi
        put "$kept" "$target"
    done <<LIST
$(rows out "$1")
LIST
    rows made "$1" | sort -r | while IFS='	' read -r _ directory; do
        rmdir -- "$directory/__pycache__" 2>/dev/null || :
        rmdir -- "$directory" 2>/dev/null || :
    done
    echo "files moved back: $1"
}

for section in $(cd "$here/undo" && ls -r | grep '\.sh$'); do . "$here/undo/$section"; done
[ "$left" = 0 ] && : >"$here/undone-by-shell"
exit "$left"
"""


def write_section(
    number: int, path: Path, before: str | None, after: str, pieces: list[Any] | None, new: list[str]
) -> str:
    """The section of an edited file. `pieces` as in `door`: None for a verbatim copy in before/NNNN."""
    kept = f'"$here/before/{number:04d}"'
    body = f"cat {kept}" if pieces is None else "\n".join(_piece(piece, kept) for piece in pieces) or ":"
    made = "".join(f"\nrmdir -- {shlex.quote(d)} 2>/dev/null || :" for d in reversed(new))
    return (
        f"before_{number:04d}() {{\n{body}\n}}\n"
        f"restore {shlex.quote(str(path))} {before or 'absent'} {after} {number:04d}{made}\n"
    )


def _piece(piece: list[Any], kept: str) -> str:
    kind, start, length = piece
    source = '"$1"' if kind == "after" else kept
    return f"tail -c +{start + 1} {source} | head -c {length}"


def moves_section(number: int) -> str:
    return f'moves "$here/moves/{number:04d}.tsv"\n'
