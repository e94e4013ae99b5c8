"""The real daemon, with one output of each kind."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from .child import Child
from .service import CLIENT, TENANT

INDEX, SOURCE, SOURCETYPE, HOST = "security", "kafka:alert-ips", "ms:defender:alert:ips", "enricher-01"

# Each output with its format and what it changes. The first is `[output]`; its headers are CloudEvents in binary mode.
OUTPUTS: dict[str, tuple[str, dict[str, str]]] = {
    "json": ("json", {}),
    "splunk": ("splunk-hec", {"splunk.index": INDEX, "splunk.host": HOST}),
    "splunk-per-ip": ("splunk-hec", {"shape": "per-ip"}),
    "splunk-with-alert": ("splunk-hec", {"include_alert": "true"}),
    "splunk-headers": ("json", {"splunk.headers": "true", "splunk.index": INDEX, "splunk.host": HOST}),
    "sentinel": ("sentinel", {}),
    "sentinel-per-ip": ("sentinel", {"shape": "per-ip"}),
    "sentinel-with-alert": ("sentinel", {"include_alert": "true"}),
    "ocsf": ("ocsf", {}),
    "ocsf-per-ip": ("ocsf", {"shape": "per-ip"}),
    "ocsf-with-alert": ("ocsf", {"include_alert": "true"}),
    "ecs": ("ecs", {}),
    "ecs-per-ip": ("ecs", {"shape": "per-ip"}),
    "ecs-with-alert": ("ecs", {"include_alert": "true"}),
    "cloudevents": ("cloudevents", {}),
    "cloudevents-per-ip": ("cloudevents", {"shape": "per-ip"}),
    "json-per-ip": ("json", {"shape": "per-ip"}),
    "json-with-alert": ("json", {"include_alert": "true"}),
}


@dataclass(frozen=True)
class Setup:
    program: str
    folder: Path
    bootstrap: str
    origin: str
    # No two runs share a topic or a group.
    name: str

    def topic(self, output: str) -> str:
        return f"{self.name}.{output}"

    def create_topics(self) -> None:
        self._file().write_text(self._configuration())
        (self.folder / "client-secret").write_text("of no meaning")
        command = [self.program, "topics", "--create", "--config", str(self._file())]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"topics --create ended with {done.returncode}: {done.stdout}{done.stderr}"

    def start(self) -> Child:
        command = [self.program, "run", "--config", str(self._file())]
        return Child("the daemon", command, self.folder / "daemon.log")

    def _file(self) -> Path:
        return self.folder / "alert-ips.toml"

    def _configuration(self) -> str:
        return f"""
[kafka]
bootstrap_servers = "{self.bootstrap}"
group_id = "{self.name}"
[topics]
input = ["{self.topic("alerts")}"]
output = "{self.topic("json")}"
dead_letters = "{self.topic("dead-letters")}"
journal = "{self.topic("journal")}"
[accounts.contoso]
tenant_id = "{TENANT}"
client_id = "{CLIENT}"
client_secret_file = "./client-secret"
api_url = "{self.origin}"
authority_url = "{self.origin}"
[not_found]
reask_after = []
[admin]
listen = ""
[log]
format = "json"
""" + "".join(self._section(output) for output in OUTPUTS)

    def _section(self, output: str) -> str:
        form, changed = OUTPUTS[output]
        is_first = output == "json"
        lines = ["[output]"] if is_first else [f"[outputs.{output}]", f'topic = "{self.topic(output)}"']
        lines += [f'format = "{form}"', f'splunk.source = "{SOURCE}"']
        bare = ("true", "false")
        lines.extend(f"{key} = {value}" if value in bare else f'{key} = "{value}"' for key, value in changed.items())
        return "\n".join(lines) + "\n"
