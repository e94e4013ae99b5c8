"""The simulated service, asked by hand too: the checks know the addresses of alerts from elsewhere than the daemon."""

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from .child import Child

TENANT = "12f988bf-1234-5678-91ab-2d7cd011db47"
CLIENT = "66666666-7777-8888-9999-000000000000"

Address = IPv4Address | IPv6Address


class Service(Child):
    def __init__(self, program: str, folder: Path):
        command = [program, "simulate", "--listen", "127.0.0.1:0", "--latency", "none"]
        command += ["--mix", "found=6,empty=2,unknown=2", "--limits", "100000 per 1m"]
        super().__init__("the simulated service", command, folder / "service.log")
        self.origin = self.wait_for("the simulated service says where it answers", 20, self._origin)
        self._token = self._sign_in()

    def addresses(self, alert_id: str) -> list[Address] | None:
        """What the service answers: each address once, in its order; `None` for an alert that it does not know."""
        request = urllib.request.Request(
            f"{self.origin}/api/alerts/{urllib.parse.quote(alert_id)}/ips",
            headers={"Authorization": f"Bearer {self._token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                listed = json.load(response)["value"]
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise
        return list(dict.fromkeys(ip_address(item["id"].strip()) for item in listed))

    def _origin(self) -> str | None:
        found = re.search(r"answers on (http://\S+)", self.said())
        return found[1] if found else None

    def _sign_in(self) -> str:
        form = {
            "grant_type": "client_credentials",
            "client_id": CLIENT,
            "client_secret": "of no meaning",
            "scope": "https://api.securitycenter.microsoft.com/.default",
        }
        body = urllib.parse.urlencode(form).encode()
        with urllib.request.urlopen(f"{self.origin}/{TENANT}/oauth2/v2.0/token", body, timeout=10) as response:
            return json.load(response)["access_token"]
