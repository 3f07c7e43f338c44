"""Checkpoints by address: which of the files that were downloaded before is the one that is meant."""
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from mmkd_plugin.utils.checkpoint_files import download
from mmkd_plugin.utils.errors import DistillationError


class Server(BaseHTTPRequestHandler):
    """Answers with the path that it was asked for."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *_):
        pass


@contextmanager
def serving():
    server = ThreadingHTTPServer(('127.0.0.1', 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f'http://127.0.0.1:{server.server_port}'
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """torch's hub folder; no proxy stands between."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    folder = tmp_path / 'hub/checkpoints'
    folder.mkdir(parents=True)
    return folder


def test_a_file_of_another_address_is_not_taken(cache):
    (cache / 'model.pth').write_text('of somebody else')
    with serving() as host:
        paths = [download(f'{host}/{folder}/model.pth', progress=False) for folder in ('one', 'two')]
        assert [path.read_text() for path in paths] == ['/one/model.pth', '/two/model.pth']
        again = download(f'{host}/one/model.pth?x=1', progress=False)
        assert again.read_text() == '/one/model.pth?x=1'
    assert download(f'{host}/one/model.pth') == paths[0]  # nobody answers any more
    assert all(path.name.startswith('model-') and path.suffix == '.pth' for path in paths)


@pytest.mark.parametrize('host', ['download.openmmlab.com', 'mmassets.onedl.ai', 'download.pytorch.org'],
                         ids=['OpenMMLab', 'OneDL', 'PyTorch'])
def test_a_file_of_a_zoo_has_its_own_name(cache, host):
    (cache / 'resnet18-12345678.pth').touch()
    assert download(f'https://{host}/models/resnet18-12345678.pth') == cache / 'resnet18-12345678.pth'


@pytest.mark.parametrize('address', ['http://', 'http:///x.pth', 'https://host', 'https://host/', 'http://[x', 'http://host/..'],
                         ids=['scheme', 'no host', 'no path', 'root', 'bracket', 'dots'])
def test_an_address_without_a_file_is_named(cache, address):
    with pytest.raises(DistillationError) as found:
        download(address)
    assert repr(address) in str(found.value)
    assert 'is the address of no file' in str(found.value)


def test_a_name_that_is_too_long_is_one_error(cache):
    with pytest.raises(DistillationError, match='cannot be downloaded'):
        download(f'http://127.0.0.1/{"x" * 300}.pth')
    assert torch.hub.get_dir() == str(cache.parent)
