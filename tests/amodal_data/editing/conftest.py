"""Pages of the editor in a browser."""

import pytest

from amodal_data.editing.server import EditingServer


@pytest.fixture
def visit(browser, monkeypatch):
    """Open an address in one browser context; errors on the console and requests to elsewhere fail the test.

    Pages are closed before their server, so that they ask nothing of one that is gone, unless ``visit.outlive``.
    """
    context, odd = browser.new_context(viewport={"width": 1280, "height": 800}), []
    context.set_default_timeout(90_000)  # 500 instances on a busy machine

    def visit(url, hash="#image=1"):
        page = context.new_page()
        page.on("console", lambda message: odd.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: odd.append(f"error: {error}"))
        page.on("request", lambda r: None if r.url.startswith((url, "data:")) else odd.append(r.url))
        page.goto(url + hash)
        page.wait_for_selector("#editor-state:not(:empty)")
        return page

    def shutdown(server, ends=EditingServer.shutdown):
        for page in [] if visit.outlive else context.pages:
            page.close()
        ends(server)

    monkeypatch.setattr(EditingServer, "shutdown", shutdown)
    visit.odd, visit.outlive = odd, False
    yield visit
    context.close()
    assert odd == []
