"""The server against attacks: other hosts, origins and tokens, huge and odd bodies, paths, methods, torn saves."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request

import pytest
from support.commands import hears_ctrl_c, run_command
from support.editing import serving

from amodal_data import write_cocoa
from amodal_data.editing.journal import journal_path, read_journal
from amodal_data.editing.source import open_source

EDIT = {"do": "move", "instance": 0, "before": None}


@pytest.fixture
def cocoa(tmp_path):
    return write_cocoa(tmp_path / "cocoa", 2, seed=5, size=(60, 80), instances=(4, 5))


@pytest.fixture
def server(cocoa):
    with serving(cocoa) as server:
        yield server


def ask(server, method, path, body=None, **headers):
    """Status and JSON or bytes of an answer; headers with _ for -, None leaves one out."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    data = json.dumps(body).encode() if not isinstance(body, bytes | None) else body
    sent = {"Host": f"127.0.0.1:{server.server_port}"}
    if data is not None:
        sent |= {"Content-Type": "application/json", "Content-Length": str(len(data))}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection._encode_request = lambda request: request.encode("latin-1")  # the client would refuse such paths
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in sent.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(data)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    is_json = answer.headers.get_content_type() == "application/json"
    return answer.status, json.loads(content) if is_json else content, answer.headers


def edit_body(**changes):
    return {"tab": "a", "image": 0, "revision": 0, "edit": EDIT} | changes


def test_the_page_its_images_and_its_json_are_served_and_may_not_be_framed_or_kept(server):
    base = f"/{server.token}"
    status, page, headers = ask(server, "GET", f"{base}/")
    assert status == 200 and b"<!doctype html>" in page
    policy = headers["Content-Security-Policy"]
    assert (
        policy.startswith("default-src 'none'")
        and "connect-src 'self'" in policy
        and "frame-ancestors 'none'" in policy
    )
    assert headers["Referrer-Policy"] == "no-referrer" and headers["Cache-Control"] == "no-store"
    assert ask(server, "GET", f"{base}/image/1")[1]["document"]["id"] == 2
    assert ask(server, "GET", f"{base}/thumbnail/0")[1][:2] == b"\xff\xd8"
    assert server.server_address[0] == "127.0.0.1"


def test_no_token_no_answer(server):
    for path in ("/", "/index.html", "/image/0", "//", "", "*", f"/{server.token[:-1]}/", f"/{server.token}x/",
                 f"/{server.token.swapcase()}/", "/%00/", "/\xc3\xbf/",
                 f"http://127.0.0.1:{server.server_port}/{server.token}/", f"/x/{server.token}/"):  # fmt: skip
        status, answer, _ = ask(server, "GET", path or "/")
        assert status in (400, 404) and server.token.encode() not in str(answer).encode(), path
    assert ask(server, "POST", "/x/edit", edit_body())[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost", "0.0.0.0:{port}", None,
                                  "127.0.0.1:{port}.evil.example", "evil.example:{port}"])  # fmt: skip
def test_other_hosts_are_refused(server, host):
    host = host and host.format(port=server.server_port)
    for method, path, body in (("GET", "", None), ("GET", "image/0", None), ("POST", "edit", edit_body())):
        assert ask(server, method, f"/{server.token}/{path}", body, Host=host)[0] == 403
    assert not server.session.document(0)["revision"]


def test_two_hosts_are_refused(server):
    with urllib.request.urlopen(server.url) as answer:
        assert answer.status == 200
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    connection.putrequest("GET", f"/{server.token}/")
    connection.putheader("Host", "evil.example")
    connection.endheaders()
    assert connection.getresponse().status == 403
    connection.close()


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1",
                                    "http://localhost:{port}"])  # fmt: skip
def test_other_origins_are_refused(server, origin):
    origin = origin.format(port=server.server_port)
    for method, path, body in (("GET", "", None), ("POST", "edit", edit_body())):
        assert ask(server, method, f"/{server.token}/{path}", body, Origin=origin)[0] == 403
    right = f"http://127.0.0.1:{server.server_port}"
    assert ask(server, "POST", f"/{server.token}/edit", edit_body(), Origin=right)[0] == 200


def test_bodies_are_bounded_and_checked(server, cocoa):
    path = f"/{server.token}/edit"
    assert ask(server, "POST", path, b"", Content_Length="2000000")[0] == 413
    assert ask(server, "POST", path, b"", Content_Length="9" * 30)[0] == 413
    assert ask(server, "POST", path, b"{}", Content_Length="-1")[0] == 411
    assert ask(server, "POST", path, b"{}", Content_Length=None)[0] == 411
    assert ask(server, "POST", path, b"2\r\n{}\r\n0\r\n\r\n", Transfer_Encoding="chunked")[0] == 411
    assert ask(server, "POST", path, edit_body(), Content_Type="text/plain")[0] == 415
    for body in (b"{", b"[]", b"null", b"\xff\xfe", b"[" * 50_000, b'{"tab": 1}', b"NaN"):
        assert ask(server, "POST", path, body)[0] == 400, body[:20]
    for changes in ({"image": True}, {"image": "0"}, {"revision": 0.0}, {"edit": []}, {"tab": None}, {"edit": {}},
                    {"edit": EDIT | {"instance": 10**400}}, {"edit": EDIT | {"before": {}}}):  # fmt: skip
        assert ask(server, "POST", path, edit_body(**changes))[0] == 400, changes
    for image in (-1, 2, 10**30):
        assert ask(server, "POST", path, edit_body(image=image))[0] == 404
    assert len(read_journal(journal_path(cocoa), server.session.source.origin).events) == 0


NO_PATHS = (
    "../../etc/passwd image/../../x image/%2e%2e/x image/-1 image/2 image/0/0 image/ image/0x1 image/٣ thumbnail/.. "
    "thumbnail COCO_amodal_val2014.json edit.js assets/edit.js image//etc/passwd"
)


@pytest.mark.parametrize("path", [*NO_PATHS.split(), "image/" + "9" * 400])
def test_no_path_leads_to_a_file(server, path):
    status, answer, _ = ask(server, "GET", f"/{server.token}/" + path.encode().decode("latin-1"))
    assert status == 404 and set(answer) == {"problem"}


def test_methods_and_routes_belong_together(server):
    for method, path in (
        ("GET", "edit"),
        ("GET", "preview"),
        ("GET", "propose"),
        ("GET", "claim"),
        ("GET", "release"),
        ("POST", ""),
        ("POST", "image/0"),
    ):
        assert ask(server, method, f"/{server.token}/{path}", b"{}" if method == "POST" else None)[0] == 405
    for method in ("PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT"):
        assert ask(server, method, f"/{server.token}/")[0] == 501


def test_a_preview_shows_what_an_edit_makes_and_keeps_nothing(server, cocoa):
    source, edit = open_source(cocoa), {"do": "outline", "instance": 1, "polygons": [[5, 5, 71, 8, 40, 56]]}
    status, shown, _ = ask(server, "POST", f"/{server.token}/preview", edit_body(edit=edit))
    assert status == 200 and not journal_path(cocoa).read_text().count("outline")
    assert ask(server, "POST", f"/{server.token}/preview", edit_body(edit=edit, revision=1))[0] == 409
    assert ask(server, "POST", f"/{server.token}/preview", edit_body(edit={**edit, "polygons": []}))[0] == 400
    kept = ask(server, "POST", f"/{server.token}/edit", edit_body(edit=edit))[1]
    assert shown["document"] == kept["document"]
    assert len(read_journal(journal_path(cocoa), source.origin).events) == 1


def test_one_tab_writes_and_another_takes_over(server):
    claim = f"/{server.token}/claim"
    assert ask(server, "POST", claim, {"tab": "a", "take": False})[1] == {"writer": True}
    assert ask(server, "POST", claim, {"tab": "b", "take": False})[1] == {"writer": False}
    assert ask(server, "POST", f"/{server.token}/edit", edit_body(tab="b"))[0] == 409
    assert ask(server, "POST", claim, {"tab": "b", "take": True})[1] == {"writer": True}
    assert ask(server, "POST", f"/{server.token}/edit", edit_body(tab="a"))[0] == 409
    assert ask(server, "POST", f"/{server.token}/edit", edit_body(tab="b"))[1]["revision"] == 1
    assert ask(server, "POST", f"/{server.token}/edit", edit_body(tab="b"))[0] == 409  # an old revision
    ask(server, "POST", f"/{server.token}/release", {"tab": "a"})
    assert ask(server, "POST", claim, {"tab": "a", "take": False})[1] == {"writer": False}
    ask(server, "POST", f"/{server.token}/release", {"tab": "b"})
    assert ask(server, "POST", claim, {"tab": "a", "take": False})[1] == {"writer": True}


def start(cocoa, *options):
    command = [sys.executable, "-m", "amodal_cli.data", "edit", str(cocoa), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hears_ctrl_c)


def post(url, path, body):
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def test_the_command_serves_until_ctrl_c_and_a_second_one_is_refused(cocoa):
    before = cocoa.read_bytes()
    with start(cocoa) as process:
        try:
            url = process.stdout.readline().strip()
            assert post(url, "edit", edit_body())["revision"] == 1
            second = run_command("amodal-data", "edit", cocoa)
            assert second.returncode == 2 and "is being written" in second.stderr and "fix:" in second.stderr
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
            assert process.returncode == 0 and "Ctrl+C" in err and "Traceback" not in err
        finally:
            process.kill()
    assert cocoa.read_bytes() == before and not list(cocoa.parent.glob(".*"))


def test_a_killed_server_leaves_a_whole_journal(cocoa):
    """kill -9 while edits are being saved: every edit that was answered is there, and the next server goes on."""
    with start(cocoa) as process:
        url, answered = process.stdout.readline().strip(), 0
        threading.Timer(0.4, process.kill).start()
        try:
            while True:
                edit = EDIT | {"instance": answered % 4}
                answered = post(url, "edit", edit_body(revision=answered, edit=edit))["revision"]
        except (OSError, http.client.HTTPException):
            pass
    source = open_source(cocoa)
    events = read_journal(journal_path(cocoa), source.origin).events
    assert answered <= len(events) <= answered + 1 and answered > 0
    with serving(cocoa) as server:
        assert server.session.document(0)["revision"] == len(events)


def test_a_port_in_use_is_named(server, cocoa, tmp_path):
    done = run_command("amodal-data", "edit", cocoa, "--journal", tmp_path / "j.jsonl", "--port", server.server_port)
    assert done.returncode == 2 and f":{server.server_port}" in done.stderr and "--port" in done.stderr


def test_a_full_disk_is_told_and_loses_nothing(server, monkeypatch):
    path, whole = f"/{server.token}/edit", os.write
    monkeypatch.setattr(os, "write", lambda handle, line: whole(handle, line[:5]))
    status, answer, _ = ask(server, "POST", path, edit_body())
    monkeypatch.setattr(os, "write", whole)
    assert status == 507 and "full" in answer["problem"]
    assert ask(server, "POST", path, edit_body())[1]["revision"] == 1
