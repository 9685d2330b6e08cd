"""The pages of `outloop audit browse` as Chromium shows them: nothing foreign runs, loads or is cut off."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import urlsplit

import pytest

from harness.chromium import Chromium, chromium
from harness.operators import Operator
from harness.site import Rows, filled, serving

pytestmark = pytest.mark.skipif(
    find_spec("datasette_dashboards") is None, reason="datasette and its charts are not installed (pip install 'outloop[browse]')"
)

CHARTS = ("requests_per_hour", "service_by_workspace", "denials_by_reason", "latency_distribution", "latency_over_time")
PAGES = (
    "",
    "audit",
    "audit/audit",
    "audit/audit?_wide=1&_facet=path&_facet=agent",
    "audit/denied_today",
    "audit/what_an_agent_touched",
    "audit/claims",
    "audit/events",
    "audit/decisions",
    "audit?sql=select+*+from+decisions",
    "request",
    "-/dashboards/charts",
    "-/dashboards/charts/latency_distribution",
)
DRAWN = "return document.querySelectorAll('[data-chart] svg.marks').length"


@dataclass(frozen=True)
class Window:
    browser: Chromium
    address: str
    rows: Rows

    def open(self, path: str) -> None:
        self.browser.open(self.address + (f"-/request/{self.rows.denied.id}" if path == "request" else path))


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Window]:
    operator = Operator(tmp_path_factory.mktemp("browse"))
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        rows = filled(operator)
        with serving(operator) as printed:
            browser.open(printed["sign_in"])
            yield Window(browser, printed["address"], rows)


def fetched(browser: Chromium) -> set[str]:
    """Return what the browser asked for since last."""
    messages = [json.loads(message)["message"] for message in browser.log("performance")]
    return {message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"}


def test_signing_in_leads_to_the_front_page_and_the_address_is_spent(window: Window) -> None:
    window.open("")

    assert window.browser.run("return document.title") == "Overview · Outloop audit record"
    assert {(cookie["httpOnly"], cookie["sameSite"]) for cookie in window.browser.cookies()} == {(True, "Strict")}
    assert window.browser.run("return document.cookie") == ""


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_nothing_from_elsewhere_and_runs_nothing_foreign(window: Window, path: str) -> None:
    browser = window.browser
    fetched(browser), browser.log("browser")
    window.open(path)
    if "dashboards" in path:
        browser.wait(DRAWN, "a chart is drawn")

    foreign = {url for url in fetched(browser) if not url.startswith((window.address, "data:"))}
    assert not foreign
    assert not browser.run("return [...document.querySelectorAll('img, iframe, object, embed')].map(each => each.outerHTML)")
    complaints = [line for line in browser.log("browser") if "vega.min.js" not in line or '"WARN"' not in line]
    assert not complaints  # a refused script would be one, and so would a dialog that opened


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_is_wider_than_the_window_and_all_text_can_be_read(window: Window, path: str, scheme: str, width: int) -> None:
    browser = window.browser
    browser.resize(width, 900)
    browser.prefer(scheme)
    window.open(path)

    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run(_FAINT) == []


def test_every_chart_is_drawn_from_the_rows(window: Window) -> None:
    browser = window.browser
    window.open("-/dashboards/charts")
    browser.wait(f"{DRAWN} === {len(CHARTS)}", "all charts are drawn")

    for chart in CHARTS:
        marks = browser.run(
            f"return document.querySelectorAll('#chart-{chart} svg .mark-rect path, #chart-{chart} svg .mark-line path').length"
        )
        assert marks, chart
    assert "path_not_allowed" in browser.run("return document.querySelector('#chart-denials_by_reason').textContent")


def test_charts_of_one_workspace_leave_out_the_others(window: Window) -> None:
    window.open("-/dashboards/charts?workspace=nobody")
    window.browser.wait(DRAWN, "a chart is drawn")

    assert "path_not_allowed" not in window.browser.run("return document.querySelector('#chart-denials_by_reason').textContent")


def test_an_id_leads_to_the_request_and_on_to_its_neighbours(window: Window) -> None:
    browser = window.browser
    window.open("audit/audit")
    browser.run(f"document.querySelector('a.id[title=\"{window.rows.denied.id}\"]').click()")
    browser.wait("return document.body.classList.contains('request')", "the request is shown")

    text = browser.run("return document.body.innerText")
    assert "<script>alert(1)</script>" in text
    assert "decision: deny / path_not_allowed" in text
    browser.run("document.querySelector('.rule').click()")
    browser.wait("return location.search.includes('rule=')", "what the rule decided is shown")
    assert window.rows.denied.id in browser.run("return document.body.innerHTML")


@contextmanager
def other_site(page: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the address of another web server on loopback whose only page is *page*, and the cookies that it was sent."""
    cookies: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            cookies.append(self.headers.get("Cookie", ""))
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", cookies
        finally:
            server.shutdown()
            thread.join()


def test_another_site_gets_neither_cookie_nor_rows_nor_a_frame(window: Window) -> None:
    # As hostile as can be: on the same host, and told the address, which nobody but the operator knows.
    page = f"""<iframe id=frame src="{window.address}"></iframe><script>
      const tries = [fetch("{window.address}audit/audit.json", {{credentials: "include"}}),
                     fetch("{window.address}audit/audit.json", {{credentials: "include", mode: "no-cors"}})];
      Promise.allSettled(tries).then(found => {{ document.title = found.map(each => each.status).join(" "); }});
    </script>"""
    with other_site(page) as (address, cookies):
        window.browser.open(address)
        outcome = window.browser.wait("return document.title", "the page has tried")
        framed = window.browser.run(
            "try { return document.getElementById('frame').contentDocument.body.innerText } catch { return '' }"
        )

    assert outcome == "rejected rejected"
    assert "acme" not in framed
    assert cookies
    assert not any("ds_actor" in cookie for cookie in cookies)


def test_a_name_that_was_rebound_to_loopback_gets_nothing(window: Window) -> None:
    place = urlsplit(window.address)
    window.browser.open(f"http://rebound.localhost:{place.port}{place.path}audit/audit.json")

    assert "acme" not in window.browser.run("return document.body.innerText")


# Text whose contrast with what is behind it is under 4.5 to 1 (WCAG 2.2, 1.4.3), by computed colours.
_FAINT = """
const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const parts = text => text.match(/[\\d.]+/g).map(Number);
const behind = element => {
  for (let each = element; each; each = each.parentElement) {
    const found = parts(getComputedStyle(each).backgroundColor);
    if (found.length < 4 || found[3] > 0.9) return found;
  }
  return [255, 255, 255];
};
const faint = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  const text = walker.currentNode.textContent.trim();
  if (!text || !element.checkVisibility() || element.closest("svg, script, style, option")) continue;
  const [one, other] = [light(parts(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
  const contrast = (one + 0.05) / (other + 0.05);
  if (contrast < 4.5) faint.add(`${contrast.toFixed(1)} ${element.tagName}.${element.className}: ${text.slice(0, 40)}`);
}
return [...faint];
"""
