"""Servers that nobody here wrote, run in a folder of their own until a block ends: nginx and squid."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.operators import PATIENCE_S
from harness.partners import needs
from harness.proxy import free_port

NGINX = """\
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
  log_format believed escape=json '$request_method $request_uri $status';
  access_log {folder}/access.log believed;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  gzip on;
  gzip_types *;
  gzip_min_length 1;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    server_name {host};
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server.pem;
    location /zipped/ {{ root {folder}; default_type text/plain; add_header Content-Encoding gzip; }}
    location / {{
      proxy_pass http://127.0.0.1:{behind};
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Connection "";
    }}
  }}
}}
"""
SQUID = """\
http_port 127.0.0.1:{port}
cache_peer 127.0.0.1 parent {behind} 0 no-query no-digest default login=PASS name=outloop
never_direct allow all
http_access allow all
cache deny all
access_log stdio:{folder}/access.log
cache_log {folder}/cache.log
pid_filename {folder}/squid.pid
coredump_dir {folder}
shutdown_lifetime 0 seconds
pinger_enable off
{user}
"""


class Nginx:
    """A running nginx with TLS, h1 and h2; everything but ``/zipped/`` goes to the server behind it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port

    def believed(self) -> list[str]:
        """Return what it took for requests so far: method, target and the status it gave."""
        return (self.folder / "access.log").read_text().splitlines()


@contextlib.contextmanager
def running_nginx(folder: Path, host: str, certificate: bytes, behind: int) -> Iterator[Nginx]:
    """Run nginx for *host*, whose key and chain *certificate* holds, before port *behind*. Skips where it is not installed."""
    program = needs("nginx", "nginx-light")
    folder.mkdir()
    folder.chmod(0o755)
    port = free_port()
    (folder / "server.pem").write_bytes(certificate)
    (folder / "zipped").mkdir()
    config = folder / "nginx.conf"
    config.write_text(_as_root("user root;\n") + NGINX.format(folder=folder, port=port, host=host, behind=behind))
    with _running([program, "-c", str(config), "-p", str(folder)], folder, port):
        yield Nginx(folder, port)


@contextlib.contextmanager
def running_squid(folder: Path, behind: int) -> Iterator[int]:
    """Run squid as a proxy whose only way out is the proxy at port *behind*; yield its port. Skips where it is not installed."""
    program = needs("squid")
    folder.mkdir()
    folder.chmod(0o755)
    port = free_port()
    user = ""
    if os.geteuid() == 0:  # squid insists on somebody else
        shutil.chown(folder, "proxy")
        user = f"cache_effective_user {pwd.getpwnam('proxy').pw_name}"
        _open_the_way(folder)
    config = folder / "squid.conf"
    config.write_text(SQUID.format(folder=folder, port=port, behind=behind, user=user))
    with _running([program, "-N", "-f", str(config)], folder, port):
        yield port


def _as_root(line: str) -> str:
    return line if os.geteuid() == 0 else ""


def _open_the_way(folder: Path) -> None:
    """Let another user pass through the folders above, which pytest keeps to itself."""
    for above in folder.parents:
        if above.stat().st_uid == os.geteuid() and not above.stat().st_mode & 0o001:
            above.chmod(above.stat().st_mode | 0o011)


@contextlib.contextmanager
def _running(command: Sequence[str], folder: Path, port: int) -> Iterator[None]:
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            said = (folder / "output").read_text(errors="replace")
            assert process.poll() is None, f"{command[0]} ended: {said}"
            assert time.monotonic() < end, f"{command[0]} does not listen: {said}"
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE_S)
