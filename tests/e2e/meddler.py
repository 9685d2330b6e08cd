"""A second script, loaded after the addon, that does to a request what its path says. Loaded by test_meddling.py."""

from __future__ import annotations

import sys

from mitmproxy import ctx, http


class Meddler:
    """``/meddle/HOOK/DEED`` has DEED done in HOOK."""

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        self.meddle("requestheaders", flow)

    def request(self, flow: http.HTTPFlow) -> None:
        self.meddle("request", flow)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        self.meddle("responseheaders", flow)

    def response(self, flow: http.HTTPFlow) -> None:
        self.meddle("response", flow)

    def error(self, flow: http.HTTPFlow) -> None:
        self.meddle("error", flow)

    def meddle(self, hook: str, flow: http.HTTPFlow) -> None:
        parts = flow.request.path.partition("?")[0].split("/")
        if hook in parts:
            getattr(self, parts[-1].replace("-", "_"))(flow)

    def raise_error(self, flow: http.HTTPFlow) -> None:
        raise RuntimeError("the meddler's")

    def exit(self, flow: http.HTTPFlow) -> None:
        sys.exit(3)

    def change_host(self, flow: http.HTTPFlow) -> None:
        flow.request.host = "other.example.com"

    def change_port(self, flow: http.HTTPFlow) -> None:
        flow.request.port = 8443

    def change_scheme(self, flow: http.HTTPFlow) -> None:
        flow.request.scheme = "http"

    def change_method(self, flow: http.HTTPFlow) -> None:
        flow.request.method = "DELETE"

    def change_path(self, flow: http.HTTPFlow) -> None:
        flow.request.path = "/private/changed"

    def change_query(self, flow: http.HTTPFlow) -> None:
        flow.request.query["changed"] = "1"

    def add_header(self, flow: http.HTTPFlow) -> None:
        flow.request.headers["X-Changed"] = "1"

    def add_credential(self, flow: http.HTTPFlow) -> None:
        flow.request.headers["Authorization"] = "Bearer changed"

    def change_host_header(self, flow: http.HTTPFlow) -> None:
        flow.request.host_header = "other.example.com"

    def change_body(self, flow: http.HTTPFlow) -> None:
        flow.request.content = b'{"max": 1, "changed": 1}'

    def add_trailers(self, flow: http.HTTPFlow) -> None:
        flow.request.trailers = http.Headers(((b"x-changed", b"1"),))

    def replace_request(self, flow: http.HTTPFlow) -> None:
        flow.request = http.Request.make("GET", "https://api.example.com/private/changed")

    def copy_request(self, flow: http.HTTPFlow) -> None:
        flow.request = flow.request.copy()

    def mark_as_replay(self, flow: http.HTTPFlow) -> None:
        flow.is_replay = "request"

    def clear_response(self, flow: http.HTTPFlow) -> None:
        flow.response = None

    def allow_it(self, flow: http.HTTPFlow) -> None:
        flow.response = None
        flow.error = None
        flow.request.path = "/"

    def stream_request(self, flow: http.HTTPFlow) -> None:
        flow.request.stream = True

    def stream_response(self, flow: http.HTTPFlow) -> None:
        assert flow.response is not None
        flow.response.stream = True

    def change_server(self, flow: http.HTTPFlow) -> None:
        flow.server_conn.via = ("http", ("127.0.0.1", 1))

    def replay(self, flow: http.HTTPFlow) -> None:
        copy = flow.copy()
        copy.request.path = "/replayed"
        ctx.master.commands.call("replay.client", [copy])

    def resume(self, flow: http.HTTPFlow) -> None:
        flow.intercept()
        flow.resume()


addons = [Meddler()]
