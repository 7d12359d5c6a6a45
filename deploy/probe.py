"""Ends with 0 if an address answers with 200 within three seconds: `python probe.py http://127.0.0.1:8080/readyz`.

For health checks in images, which have no curl.
"""

import sys
import urllib.error
import urllib.request


def answers(url: str) -> bool:
    """Whether it does."""
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    sys.exit(not answers(sys.argv[1]))
