import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import httpx
import pytest
import requests

from flows.serving import proxies
from tests.shared.running import PROXIES


class Answer(BaseHTTPRequestHandler):
    """Answers every request with nothing."""

    def do_GET(self):  # the name that http.server calls
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        """Say nothing."""


@pytest.fixture
def address():
    """Return the address of a server on this machine."""
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def shell(monkeypatch):
    """Unset all variables of proxies, in both spellings, and restore them afterwards."""
    for name in ("NO_PROXY", *proxies.PROXIES):
        for spelling in (name, name.lower()):
            monkeypatch.setenv(spelling, "")
            monkeypatch.delenv(spelling)


@pytest.mark.parametrize("variables", [PROXIES, {"all_proxy": "socks4a://127.0.0.1:9"}, {"http_proxy": "127.0.0.1:9"}])
def test_loopback_goes_through_no_proxy(address, variables):
    """The clients of Prefect (httpx) and MLflow (requests) reach this machine, whatever proxy the shell names."""
    os.environ |= variables
    proxies.bypass()
    assert httpx.get(address).is_success
    assert requests.get(address, timeout=5).ok


def test_other_machines_keep_their_proxy():
    """A proxy that the clients can speak to stays, and so do the hosts that the user leaves out."""
    os.environ |= {"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "example.org", "NO_PROXY": "10.0.0.1, localhost"}
    proxies.bypass()
    assert os.environ["HTTPS_PROXY"] == "http://proxy:3128"
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "10.0.0.1,localhost,example.org,127.0.0.1,::1"
    assert requests.utils.get_environ_proxies("https://mlflow.example.com")["https"] == "http://proxy:3128"
    os.environ["NO_PROXY"] = "*"
    proxies.bypass()
    assert os.environ["no_proxy"] == "*"
