"""Downloads against a real server on this machine that can break off and may know byte ranges."""

import http.server
import os
import threading

import pytest
import requests

from isonb.training import download

CONTENT = bytes(range(256)) * 4000


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT, at most `limit` bytes of it a request although more are promised."""

    def do_GET(self):
        begin = 0
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if asked and self.server.knows_ranges:
            begin = int(asked.removeprefix("bytes=").removesuffix("-"))
            if begin >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206)
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT) - begin))
        self.end_headers()
        self.wfile.write(CONTENT[begin : begin + self.server.limit])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.limit, running.knows_ranges, running.asked = len(CONTENT), True, []
        running.url = f"http://127.0.0.1:{running.server_address[1]}/archive.bin"
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_whole_download_leaves_the_file_alone(server, tmp_path):
    download.resume(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert server.asked == [None]


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    server.limit = 300_000
    with pytest.raises(requests.RequestException):
        download.resume(server.url, tmp_path / "file")
    assert not (tmp_path / "file").exists()
    have = (tmp_path / "archive.bin.part").stat().st_size
    server.limit = len(CONTENT)
    download.resume(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={have}-"]
    assert 300_000 - download.CHUNK < have <= 300_000


def test_a_server_without_ranges_sends_the_whole_again(server, tmp_path):
    (tmp_path / "archive.bin.part").write_bytes(b"what another try left")
    server.knows_ranges = False
    download.resume(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_dropped(server, tmp_path):
    (tmp_path / "archive.bin.part").write_bytes(CONTENT + b"more")
    with pytest.raises(requests.HTTPError):
        download.resume(server.url, tmp_path / "file")
    download.resume(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_part_that_is_no_file_is_replaced(server, tmp_path):
    os.mkfifo(tmp_path / "archive.bin.part")
    download.resume(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_that_sends_without_end_is_left(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", len(CONTENT) // 2)
    with pytest.raises(OSError, match="more than an archive of images has"):
        download.resume(server.url, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_an_error(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(requests.ConnectionError):
        download.resume(server.url, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
