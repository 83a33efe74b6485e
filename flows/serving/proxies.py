"""Servers of this machine are reached without the proxies that the user's shell names."""

import os
from urllib.parse import urlsplit

OWN = ("127.0.0.1", "localhost", "::1")
PROXIES = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY")
SPOKEN = ("http", "https")  # httpx and requests need packages that are not installed for SOCKS, and httpx then fails


def bypass() -> None:
    """Let this process, and all that it starts, reach this machine's own servers without a proxy.

    A variable that names a proxy which the clients here cannot speak to is removed, because they would not even start.
    """
    given = [host for name in _both("NO_PROXY") for host in os.environ.get(name, "").split(",")]
    hosts = [*dict.fromkeys(host.strip() for host in (*given, *OWN) if host.strip())]
    os.environ |= dict.fromkeys(_both("NO_PROXY"), "*" if "*" in hosts else ",".join(hosts))
    for name in (each for proxy in PROXIES for each in _both(proxy)):
        proxy = os.environ.get(name, "")
        if "://" in proxy and urlsplit(proxy).scheme.lower() not in SPOKEN:
            del os.environ[name]


def _both(name: str) -> tuple[str, str]:
    """Return a variable's two spellings: some clients read the one first, some the other."""
    return name, name.lower()
