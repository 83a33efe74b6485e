"""Succeed if Prefect's server hears from a worker of a pool: python healthy.py POOL.

The server takes a worker as dead after three missing heartbeats, 90 s.
"""

import os
import sys

import httpx

if __name__ == "__main__":
    user, password = os.environ["PREFECT_API_AUTH_STRING"].split(":", 1)
    url = f"{os.environ['PREFECT_API_URL']}/work_pools/{sys.argv[1]}"
    answer = httpx.get(url, auth=(user, password), timeout=5).raise_for_status()
    sys.exit(answer.json()["status"] != "READY")
