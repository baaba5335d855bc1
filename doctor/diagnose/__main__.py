"""`python -m doctor.diagnose diagnose - --format json`: the contract's document, without the rest of the program."""

from __future__ import annotations

import sys

import msgspec

import doctor
from doctor.diagnose.engine import diagnose
from doctor.diagnose.read import UnreadableLog
from knowledge_base.index import index


def main() -> int:
    sources = [word for word in sys.argv[1:] if word == "-" or not word.startswith("-")]
    sources = [word for word in sources if word not in ("diagnose", "json")] or ["-"]
    try:
        result = diagnose(sources)
    except UnreadableLog as error:
        print(error, file=sys.stderr)
        return 2
    known = index()
    document = {
        "schema_version": 1,
        "command": "diagnose",
        "version": doctor.__version__,
        "healthy": not result.findings and result.unrecognised is None,
        "findings": [
            {
                "cause": finding.cause,
                "severity": known.summaries[finding.cause].severity.value,
                "confidence": finding.confidence,
                "title": known.summaries[finding.cause].title.en,
                "evidence": finding.evidence,
                "source": finding.source,
                "blocks_training": known.cause(finding.cause).blocks,
                "rank": finding.rank,
                "details": finding.details,
            }
            for finding in result.findings
        ],
        "unrecognised": result.unrecognised,
        "notes": result.notes,
    }
    sys.stdout.buffer.write(msgspec.json.encode(document) + b"\n")
    return 1 if result.findings else 5 if result.unrecognised else 0


if __name__ == "__main__":
    sys.exit(main())
