#!/usr/bin/env python3
"""Writes expected.json: settings files, and what python-dotenv makes of each.

Run it after adding a case, with python-dotenv installed (pip install python-dotenv):

    python3 tests/dotenv/generate.py > tests/dotenv/expected.json

PolicydRateGuard calls load_dotenv(), so override is False here: the environment comes first in ${NAME}.
"""

import importlib.metadata
import json
import logging
import os
import random
import sys
import tempfile

from dotenv.main import DotEnv
from dotenv.parser import parse_stream

# What stands in the environment of every case.
ENVIRONMENT = {"HOME": "/home/alice", "EMPTY": "", "DOLLAR": "a${HOME}b"}

CASES = [
    # Plain values
    "A=1", "A=b c d", "A = b", "A\t=\tb", " A=b", "A=b ", "A=b \t", "A=", "A= ", "A=\nB=2", "A=  b  c  ", "A=b=c", "A==", "A=é ü 漢字",
    # Dollars
    "A=p$ss", 'A="p$ss"', "A='p$ss'", "A=$", "A=$$", "A=$HOME", 'A="$HOME"', "A=p$ss$", "A=\\$HOME", 'A="\\$HOME"',
    # ${NAME}
    "A=${HOME}", 'A="${HOME}/x"', "A='${HOME}'", "A=${NOPE}", "A=${NOPE:-text}", "A=${HOME:-text}", "A=${EMPTY:-text}",
    "A=${NOPE:-}", "A=${NOPE:-a b # c}", "A=${NOPE:text}", "A=${NOPE-text}", "A=${}", "A=${:-x}", "A=${", "A=${HOME", "A=$ {HOME}",
    "A=${${HOME}}", "A=${HOME}${HOME}", "A=x${HOME}y", "A=${DOLLAR}", "A=${a:-${HOME}}", "A=\\${HOME}", 'A="\\${HOME}"',
    "A=1\nB=${A}", "B=${A}\nA=1", "HOME=/file\nB=${HOME}", "A\nB=${A:-x}", "A=\nB=${A:-x}", "A=1\nA=${A}2\nB=${A}",
    'A="${B:-\\n}"', "A=${HOME:-}}", "A=${a:-b:-c}", "A=${HO\nB=ME}", 'A="${HO\nME}"', "'A B'=1\nC=${A B}",
    # Comments
    "# A=1", "  # A=1", "#", "A=1 # c", "A=1# c", "A=1 #", "A=#c", "A= #c", "A=  # c", "A=a#b #c", "A=a\t#c", "A=a #b #c",
    "A='b' # c", "A='b'# c", "A='b'#c", 'A="b" # c', 'A="b#c"', "A='b # c' # d", "A # c", "A # c = 1", "A='b #c", "A#b=1",
    "export # c", "A=b #c'd\nB='2'", "A=a  b  #",
    # Single quotes
    "A='b c'", "A=''", "A='b\\'c'", "A='b\\\\'", "A='b\\\\c'", "A='b\\nc'", "A='b\"c'", "A='b'c", "A='b' c", "A=b'c", "A=b'c'",
    "A='b\\\\\\'c'", "A=' b '", "A='\\d\\w'", "A= 'b'", "A='b", "A='b\nB=2", "A='b\\'\nB=2", "A='b\\'",
    # Double quotes
    'A="b c"', 'A=""', 'A="b\\"c"', 'A="b\\\\"', 'A="b\\\\c"', 'A="b\\nc"', 'A="b\\tc\\rd\\ve\\ff\\ag\\bh"', "A=\"b'c\"", 'A="b\\\'c"',
    'A="b"c', 'A="b" c', 'A=b"c', 'A=b"c"', 'A="\\x41\\u0041\\101\\0"', 'A="\\$x\\`"', 'A="b\\ c"', 'A="b', 'A="b\nB=2', 'A="b\\\\\\"c"',
    'A="b\\\\n"', 'A=" b "', 'A="b\\', 'A="\\\\" # x "', 'A="b`c`"', 'A=`b c`', 'A="!#%&/()=?"', "A='!#%&/()=?'", "A=!#%&/()=?",
    # Unquoted escapes
    "A=b\\nc", "A=b\\", "A=b\\ c", 'A=b\\"c', "A=\\'b", "A=\\#b", "A=b \\# c",
    # Several lines
    "A='b\nc'", 'A="b\nc"', 'A="b\n\n# c\nd" # e\nB=2', "A='b\r\nc'\r\nB=2", 'A="b\\\nc"', "A=b\\\nB=2", "A='b\rc'", "A=1\rB=2\r",
    "A=1\r\nB=2\r\n", "\r\n\r\nA=1\r\n", "A=1\n\n\n  \n\tB=2", "A='1'\n\n'B'=2", "A=1\x0cB=2", "A='1'\x0cB=2",
    # Names
    "export A=1", "export  A=1", "export\tA=1", "export A", "export", "export=1", "export =1", "export export=1", "exportA=1", " export A=1",
    "export 'A'=1", "'A'=1", "'A B'=1", "'A=1", "''=1", '"A"=1', "A", "A\nB=2", "A=1\nA", "A=1\nA\nA=3", "A B=1", "A B", "=1", "==", "a.b=1", "A-B=1",
    "1A=1", "ä=1", "[section]\nA=1", "A: 1", "A:1", "A=1\nA=2", "export \nA=1", "A\n=1", "$A=1", "A\\=1", "é\u0301=x",
    # Line ends, byte order mark, odd blanks
    "\ufeffA=1", "\ufeff\ufeffA=1", "\ufeff# c\nA=1", "\ufeff", "", "\n", " ", "A=\u00a0b\u00a0", "A\u00a0=\u2003b", "A=b\u00a0#c", "A=b\u2028c",
    "A=b\x1cc\x1f", "A=b\x1c#c", "A=\x0bb", "A=b\x85c", "A=b\u200bc", "A=\u200bb", "\u200bA=b", "A=b\x00c", "A='b\x00c'",
    # Broken lines, and what follows them
    "A='b\nB='2'\nC=3", 'A="b\nB="2"\nC=3', "A='b' x\nB=2", "A B=1\r\nC=3", "A='b'x # c\nB=2", "=1\nB=2", "A=\"b'\nB='c\"\nC=3",
    # PolicydRateGuard's own examples
    '# QUOTA=1000 # The default quota\nQUOTA=2000 # The default quota\nACTION_TEXT_BLOCKED="Rate limit reached, retry later." # text',
    'SOCKET="127.0.0.1,10033" # Use this\nLOG_MSG_PREFIX=False # True or False (default: True) - Prefix',
    'WEBHOOK_URL="https://example.com/api/policyd/{sender}?token={token}" # URL\nWEBHOOK_SECRET="c2VjcmV0IGtleQ==" # s',
    "DB_PASSWORD=Example1234", "DB_PASSWORD=a#b$c{d}e", "DB_PASSWORD='a#b $c{d}e\\'f'", 'DB_PASSWORD="a#b $c{d}e\\"f\\\\"', "DB_PASSWORD=\"it's\"",
]

# Pieces that random cases are put together from: what the rules are about.
PIECES = ["A", "B", "=", "=", "=", "'", "'", '"', '"', "\\", "#", " ", " ", "\n", "\n", "\r\n", "$", "${A}", "${HOME}", "${", "}", ":-", "export ", "n", "é"]


def results(text):
    """Values by name, and how many statements were not understood; as load_dotenv() would set them."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        values = DotEnv(file.name, encoding="utf-8", override=False).dict()
        with open(file.name, encoding="utf-8") as stream:
            broken = sum(binding.error for binding in parse_stream(stream))
    return {name: value for name, value in values.items() if value is not None}, broken


def main():
    logging.disable()
    os.environ.clear()
    os.environ.update(ENVIRONMENT)
    seeded = random.Random(10033)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    cases = CASES + ["".join(seeded.choices(PIECES, k=seeded.randint(4, 24))) for _ in range(count)]
    rows = []
    for text in dict.fromkeys(cases):
        values, broken = results(text)
        rows.append(json.dumps({"file": text, "values": values, "broken": broken}))
    version = importlib.metadata.version("python-dotenv")
    print(f'{{"python-dotenv": "{version}", "environment": {json.dumps(ENVIRONMENT)}, "cases": [')
    print(",\n".join(rows))
    print("]}")


if __name__ == "__main__":
    main()
