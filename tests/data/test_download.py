"""Downloads, against a server on this machine: whole files are kept, all else leaves a clean folder."""

import ast
import gzip
import hashlib
import io
import os
import resource
import socket
import struct
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from course_lib.cache import cache_folder
from course_lib.data import describe, load, names
from course_lib.data import download as module
from course_lib.data.download import DownloadError, data_folder, download

pooch = pytest.importorskip("pooch", reason="the extra 'download' is not installed")
FILES = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz")
FILES += ("t10k-labels-idx1-ubyte.gz",)


def idx(values: np.ndarray) -> bytes:
    header = struct.pack(">BBBB", 0, 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    return gzip.compress(header + values.astype(np.uint8).tobytes(), mtime=0)


def small_mnist() -> tuple[dict[str, bytes], list[np.ndarray]]:
    random = np.random.RandomState(0)
    x, test_x = random.randint(256, size=(240, 28, 28)), random.randint(256, size=(40, 28, 28))
    y, test_y = np.arange(240) % 10, np.arange(40) % 10
    x[7] = test_x[3]  # a training picture that the test set repeats
    x[11] = x[5]
    arrays = [x, y, test_x, test_y]
    return {name: idx(values) for name, values in zip(FILES, arrays, strict=True)}, arrays


@pytest.fixture
def server():
    """Serves ``server.files``; one in ``server.cut`` stops halfway; ``server.asked`` lists the requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.rsplit("/", 1)[1]
            made.asked.append(self.path)
            if name not in made.files or self.path.startswith("/absent/"):
                self.send_error(404)
                return
            content = made.files[name]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if name in made.cut else content)

        def log_message(self, *args):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.files, made.cut, made.asked = {}, set(), []
    made.url = f"http://127.0.0.1:{made.server_port}"
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("COURSE_LIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "data"


@pytest.fixture
def mnist(server, folder, monkeypatch) -> list[np.ndarray]:
    """A small MNIST on the server, expected by the library; gives its arrays."""
    server.files, arrays = small_mnist()
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in server.files.items()}
    monkeypatch.setitem(module._REMOTE, "mnist", module._Remote((f"{server.url}/a/",), md5, 1))
    return arrays


def test_a_download_is_whole_and_loads_like_any_other_set(server, folder, mnist):
    assert download("mnist") == folder / "mnist"
    assert sorted(os.listdir(folder / "mnist")) == sorted(FILES)
    data = load("mnist")
    assert data.train.x.shape[1:] == (1, 28, 28)
    assert data.train.x.dtype == torch.float32
    x, y, test_x, test_y = mnist
    assert torch.equal((data.test.x[:, 0] * 255).round().byte(), torch.from_numpy(test_x).byte())
    assert torch.equal(data.test.y, torch.from_numpy(test_y))
    kept = torch.cat([data.train.x, data.validation.x])[:, 0]
    labels = torch.cat([data.train.y, data.validation.y])
    own = {(row.tobytes(), label) for row, label in zip(x.astype(np.uint8), y.tolist(), strict=True)}
    for row, label in zip((kept * 255).round().byte().numpy(), labels.tolist(), strict=True):
        assert (row.tobytes(), label) in own
    assert len(kept) == 239  # without the picture that the test set repeats
    assert len(data.validation) == pytest.approx(20, abs=2)
    rows = [{r.numpy().tobytes() for r in split.x} for split in data.splits.values()]
    assert not rows[0] & rows[1]
    assert not (rows[0] | rows[1]) & rows[2]
    assert data.meta.classes == tuple("0123456789")


def test_what_is_there_is_not_fetched_again(server, folder, mnist):
    download("mnist")
    asked = len(server.asked)
    download("mnist")
    assert len(server.asked) == asked == 4


def test_only_a_damaged_file_is_fetched_again(server, folder, mnist):
    download("mnist")
    (folder / "mnist" / FILES[2]).write_bytes(b"broken")
    download("mnist")
    assert [path.rsplit("/", 1)[1] for path in server.asked[4:]] == [FILES[2]]
    assert (folder / "mnist" / FILES[2]).read_bytes() == server.files[FILES[2]]


def test_loading_a_damaged_file_removes_it_and_says_how_to_go_on(server, folder, mnist):
    download("mnist")
    (folder / "mnist" / FILES[1]).write_bytes(b"broken")
    with pytest.raises(
        ValueError, match=rf"{FILES[1]} was damaged and has been removed; .*download\(\"mnist\"\)"
    ):
        load("mnist")
    assert FILES[1] not in os.listdir(folder / "mnist")
    with pytest.raises(FileNotFoundError, match="not on this machine"):
        load("mnist")
    download("mnist")
    assert len(load("mnist").test) == 40


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_what_was_not_downloaded_says_how(folder, name, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *args: pytest.fail("opened a connection"))
    with pytest.raises(FileNotFoundError, match=rf'fetch its \d+ MB once: .*download\("{name}"\)'):
        load(name)
    assert not folder.exists()
    assert name not in names()
    assert name in names(downloads=True)
    assert describe(name).extra == "download"


def test_mirrors_are_tried_in_turn(server, folder, mnist, monkeypatch):
    remote = module._REMOTE["mnist"]
    mirrors = ("http://127.0.0.1:1/", f"{server.url}/absent/", f"{server.url}/good/")
    monkeypatch.setitem(module._REMOTE, "mnist", module._Remote(mirrors, remote.md5, 1))
    download("mnist")
    assert len(load("mnist").test) == 40
    assert [path.split("/")[1] for path in server.asked] == ["absent", "good"] * 4


def test_no_network_names_every_mirror_and_leaves_nothing(folder, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    mirrors = (f"http://127.0.0.1:{port}/", "http://127.0.0.1:1/")
    monkeypatch.setitem(module._REMOTE, "mnist", module._Remote(mirrors, {"x.gz": "0" * 32}, 1))
    with pytest.raises(DownloadError, match=r"cannot download x\.gz; nothing was kept") as caught:
        download("mnist")
    for mirror in mirrors:
        assert f"{mirror}: ConnectionError: " in str(caught.value)
    assert "refused" in str(caught.value)
    assert os.listdir(folder) == []


def test_a_wrong_checksum_keeps_nothing(server, folder, mnist):
    server.files[FILES[1]] = idx(np.zeros(240))
    with pytest.raises(DownloadError, match=f"cannot download {FILES[1]}; .*\n.*has another checksum than"):
        download("mnist")
    assert os.listdir(folder / "mnist") == [FILES[0]]  # whole, so that it need not be fetched again
    with pytest.raises(FileNotFoundError, match="not on this machine"):
        load("mnist")


def test_a_truncated_file_keeps_nothing(server, folder, mnist):
    server.cut.add(FILES[0])
    with pytest.raises(DownloadError, match=f"cannot download {FILES[0]}"):
        download("mnist")
    assert os.listdir(folder) == []
    server.cut.clear()
    download("mnist")
    assert len(load("mnist").test) == 40


def test_a_full_disk_is_named_and_keeps_nothing(server, folder, mnist):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # no file may grow beyond this
    try:
        with pytest.raises(
            DownloadError, match=r"cannot keep mnist in .*File too large.*set COURSE_LIB_DATA"
        ):
            download("mnist")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not any(path.is_file() for path in folder.rglob("*"))
    download("mnist")
    assert len(load("mnist").test) == 40


def test_a_folder_that_cannot_be_made_is_named(tmp_path, server, mnist, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("COURSE_LIB_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(DownloadError, match=r"cannot keep mnist in .*Not a directory"):
        download("mnist")
    assert server.asked == []


def test_ctrl_c_in_the_middle_keeps_nothing(server, folder, mnist, monkeypatch):
    def interrupted(self, url, output_file, pooch):
        Path(output_file).write_bytes(b"half a f")
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download("mnist")
    assert not any(path.is_file() for path in folder.rglob("*"))


def test_progress_is_shown_when_asked_for(server, folder, mnist, capsys):
    download("mnist", progress=True)
    assert "100%" in capsys.readouterr().err


def test_cifar_is_read_from_its_archive(server, folder, monkeypatch):
    random = np.random.RandomState(1)
    rows = [random.randint(256, size=(30, 3073)).astype(np.uint8) for _ in range(6)]
    for part in rows:
        part[:, 0] = np.arange(30) % 10
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, part in zip(
            [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"], rows, strict=True
        ):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = part.nbytes
            archive.addfile(member, io.BytesIO(part.tobytes()))
    server.files["cifar-10-binary.tar.gz"] = content.getvalue()
    md5 = {"cifar-10-binary.tar.gz": hashlib.md5(content.getvalue()).hexdigest()}
    monkeypatch.setitem(module._REMOTE, "cifar10", module._Remote((f"{server.url}/",), md5, 1))
    download("cifar10")
    assert os.listdir(folder / "cifar10") == ["cifar-10-binary.tar.gz"]  # nothing is unpacked
    data = load("cifar10")
    assert (len(data.train) + len(data.validation), len(data.test)) == (150, 30)
    pixels = (data.test.x[4] * 255).round().byte().numpy()
    np.testing.assert_array_equal(pixels.reshape(-1), rows[5][4, 1:])
    assert data.test.y.tolist() == rows[5][:, 0].tolist()
    assert data.meta.classes[3] == "cat"


def test_fashion_has_its_own_classes(server, folder, mnist, monkeypatch):
    monkeypatch.setitem(module._REMOTE, "fashion_mnist", module._REMOTE["mnist"])
    download("fashion_mnist")
    assert load("fashion_mnist").meta.classes[9] == "Ankle boot"


def test_an_unknown_set_is_refused():
    with pytest.raises(
        ValueError, match="'imagenet' is not a set to download; there are mnist, fashion_mnist, cifar10"
    ):
        download("imagenet")


def test_without_pooch_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r'pooch is not installed: pip install "\.\[download\]"'):
        download("mnist")
    with pytest.raises(FileNotFoundError, match="not on this machine"):
        load("mnist")


def test_the_folder_is_the_users_cache_unless_named(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_LIB_DATA", raising=False)
    assert data_folder() == cache_folder() / "data"
    monkeypatch.setenv("COURSE_LIB_DATA", str(tmp_path))
    assert data_folder() == tmp_path


def test_the_checksums_are_those_of_torchvision():
    spec = find_spec("torchvision")
    if spec is None:
        pytest.skip("torchvision is not installed")
    # Read, not imported: its compiled part need not fit the installed torch.
    tree = ast.parse(Path(spec.origin).with_name("datasets").joinpath("mnist.py").read_text("utf-8"))
    resources = {
        node.name: dict(ast.literal_eval(line.value))
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name in ("MNIST", "FashionMNIST")
        for line in node.body
        if isinstance(line, ast.Assign) and line.targets[0].id == "resources"
    }
    assert module._REMOTE["mnist"].md5 == resources["MNIST"]
    assert module._REMOTE["fashion_mnist"].md5 == resources["FashionMNIST"]
