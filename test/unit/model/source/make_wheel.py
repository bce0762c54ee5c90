"""Writes a wheel for the tests: make_wheel.py TARGET, with a JSON object of entry name -> text on standard input.

RECORD gets the right hash of every entry, unless the object brings its own.
"""

import base64
import hashlib
import json
import sys
import zipfile

NAME = "tiny_model-1.0.dist-info"
entries = {
    f"{NAME}/METADATA": "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n",
    f"{NAME}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    **json.load(sys.stdin),
}


def record_line(name: str, text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(text.encode())}\n"


record = "".join(record_line(name, text) for name, text in entries.items())
entries.setdefault(f"{NAME}/RECORD", record)
with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED) as wheel:
    for name, text in entries.items():
        wheel.writestr(name, text)
