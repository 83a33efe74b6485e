"""Succeed if Prefect's server hears from a worker of a pool: python healthy.py POOL.

The server takes a worker as dead after three missing heartbeats, 90 s. A container runs this every ten seconds, so it
imports nothing that takes long.
"""

import json
import os
import sys
from base64 import b64encode
from urllib.request import Request, urlopen

if __name__ == "__main__":
    credentials = b64encode(os.environ["PREFECT_API_AUTH_STRING"].encode()).decode()
    url = f"{os.environ['PREFECT_API_URL']}/work_pools/{sys.argv[1]}"
    with urlopen(Request(url, headers={"Authorization": f"Basic {credentials}"}), timeout=5) as answer:  # noqa: S310  # an address that the administrator gave
        sys.exit(json.load(answer)["status"] != "READY")
