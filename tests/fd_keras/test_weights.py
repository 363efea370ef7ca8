import dataclasses
import hashlib
import re
import zipfile
from pathlib import Path

import keras
import pytest

import fd_keras
from fd_keras import checkpoints, weights, zoo
from fd_keras.checkpoints import CheckpointError
from fd_keras.spec import lower
from fd_keras.weights import CHECKPOINTS, Checkpoint

every_checkpoint = pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda checkpoint: checkpoint.file)


def arch_of(checkpoint: Checkpoint):
    return zoo.get_arch(checkpoint.arch, checkpoint.groups, checkpoint.stem_multiplier)


# --- table of checkpoints ----------------------------------------------------------------------------------


@every_checkpoint
def test_rows_are_complete(checkpoint):
    algorithm, digest = checkpoint.digest.split(":")
    assert len(digest) == {"sha1": 40, "git": 40, "sha256": 64}[algorithm]
    assert set(digest) <= set("0123456789abcdef")
    assert checkpoint.url.startswith("https://")
    assert checkpoint.url.removesuffix(".zip").endswith(f"/{checkpoint.file}")
    assert checkpoint.license
    assert 30 < checkpoint.top1 < 80
    assert checkpoint.collection in weights.COLLECTIONS


@every_checkpoint
def test_rows_belong_to_networks_of_the_zoo(checkpoint):
    arch = arch_of(checkpoint)
    assert checkpoint.fits(arch, checkpoint.alpha)
    assert weights.find(checkpoint.collection, arch, checkpoint.alpha) is checkpoint
    assert not checkpoint.fits(arch, checkpoint.alpha / 2)
    assert lower(arch, checkpoint.alpha)


@pytest.mark.parametrize("checkpoint", [c for c in CHECKPOINTS if c.collection == "imagenet"], ids=lambda c: c.file)
def test_imgclsmob_names_match_the_networks(checkpoint):
    network, width, error, digest = re.fullmatch(
        r"(\w+)_(w\d|w3d4|wd\d)-(\d{4})-(\w{8})\.tf2\.h5", checkpoint.file
    ).groups()
    groups = f"_g{checkpoint.groups}" if checkpoint.groups else ""
    assert network == checkpoint.arch.replace("_", "") + groups
    assert {"w1": 1.0, "w3d4": 0.75, "wd2": 0.5, "wd4": 0.25}[width] == checkpoint.alpha
    assert checkpoint.digest.startswith(f"sha1:{digest}")
    assert checkpoint.license == "MIT"
    assert int(error) / 100 < 100 - checkpoint.top1  # the top-5 error is smaller than the top-1 error
    assert checkpoint.stem_multiplier == (checkpoint.alpha if checkpoint.groups else None)


def test_files_and_digests_are_unique():
    assert len({checkpoint.file for checkpoint in CHECKPOINTS}) == len(CHECKPOINTS)
    assert len({checkpoint.digest for checkpoint in CHECKPOINTS}) == len(CHECKPOINTS)


def test_authors_weights_have_no_license():
    licenses = {checkpoint.license for checkpoint in CHECKPOINTS if checkpoint.collection == "imagenet_authors"}
    assert len(licenses) == 1
    assert "none stated" in licenses.pop()


@pytest.mark.parametrize("alpha", [0.25, 0.5])
def test_the_authors_files_have_the_listed_digests(data, alpha):
    checkpoint = weights.find("imagenet_authors", zoo.FD_MOBILENET, alpha)
    weights.verify(data / "weights" / checkpoint.file, checkpoint)


@pytest.mark.parametrize(
    ("collection", "arch", "alpha", "message"),
    [
        (
            "imagenet",
            ("fd_mobilenet",),
            0.125,
            "FD-MobileNet with alpha=0.125. It has: alpha=1.0; alpha=0.75; alpha=0.5",
        ),
        ("imagenet_authors", ("fd_mobilenet",), 0.75, "It has: alpha=1.0; alpha=0.5; alpha=0.25"),
        ("imagenet_authors", ("mobilenet",), 1.0, "no checkpoint of MobileNet with alpha=1.0. It has: none for"),
        ("imagenet", ("shufflenet", 2), 0.5, "alpha=0.5, groups=2, stem_multiplier=0.5. It has: .*groups=2"),
        ("imagenet", ("shufflenet",), 0.25, "stem_multiplier=0.5. It has: alpha=0.25, groups=3, stem_multiplier=0.25"),
        (
            "imagenet",
            ("fd_shufflenet",),
            1.0,
            "It has: none for this network. Or pass the path",
        ),
    ],
)
def test_the_error_for_a_missing_checkpoint_lists_the_available_ones(collection, arch, alpha, message):
    with pytest.raises(ValueError, match=message):
        weights.find(collection, zoo.get_arch(*arch), alpha)


# --- hashes ------------------------------------------------------------------------------------------------


def test_digests_of_known_content():
    """The values are those of sha1sum, sha256sum and git hash-object for "hello\\n"."""
    digest = {algorithm: weights.digest_of(b"hello\n", algorithm) for algorithm in ("sha1", "sha256", "git")}
    assert digest == {
        "sha1": "sha1:f572d396fae9206628714fb2ce00f72e94f2258f",
        "sha256": "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        "git": "git:ce013625030ba8dba906f756967f9e9ca394464a",
    }


# --- finding files -----------------------------------------------------------------------------------------


@pytest.fixture
def published(references, tmp_path, monkeypatch):
    """Registers a generated file as the published FD-MobileNet 0.25x; returns its bytes and its entry."""
    path = references.write_imgclsmob(tmp_path / "made.h5", "fdmobilenet_wd4")
    content = Path(path).read_bytes()
    checkpoint = Checkpoint(
        arch="fd_mobilenet",
        alpha=0.25,
        collection="imagenet",
        file="published.tf2.h5",
        url="https://example.invalid/published.tf2.h5.zip",
        digest=f"sha1:{hashlib.sha1(content).hexdigest()}",
        license="MIT",
        top1=44.58,
    )
    monkeypatch.setattr(weights, "CHECKPOINTS", (checkpoint,))
    return content, checkpoint


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder in FD_KERAS_WEIGHTS_DIR, with an empty cache."""
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv(weights.DIRECTORY_VARIABLE, str(tmp_path / "mine"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    return tmp_path / "mine"


def write_zip(path, name: str, content: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)


def read_published():
    ops = lower(zoo.FD_MOBILENET, 0.25)
    return weights.read("imagenet", zoo.FD_MOBILENET, 0.25, ops)


def test_a_file_in_the_users_folder_is_used(published, folder):
    content, checkpoint = published
    (folder / checkpoint.file).write_bytes(content)
    assert weights.fetch(checkpoint) == str(folder / checkpoint.file)
    assert len(read_published()) == 2 * 23 + 1


def test_a_local_checkpoint_is_found_offline(published, folder, tmp_path, monkeypatch):
    """The user's folder, the cache and the folder of a given file are searched for a file with the right hash."""
    content, checkpoint = published
    monkeypatch.setattr(keras.utils, "get_file", None)
    places = [folder, tmp_path / "cache" / "models" / "fd_keras" / "downloads", tmp_path / "beside"]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        path, beside = place / checkpoint.file, str(tmp_path / "beside" / "narrow.h5")
        assert weights.at_hand(zoo.FD_MOBILENET, 0.25, beside) is None
        path.write_bytes(content)
        assert weights.at_hand(zoo.FD_MOBILENET, 0.25, beside) == str(path)
        assert weights.at_hand(zoo.FD_MOBILENET, 0.5, beside) is None
        path.write_bytes(b"damaged")
        assert weights.at_hand(zoo.FD_MOBILENET, 0.25, beside) is None
        path.unlink()


def test_a_zip_in_the_users_folder_is_unpacked_into_the_cache(published, folder, tmp_path):
    content, checkpoint = published
    write_zip(folder / f"{checkpoint.file}.zip", checkpoint.file, content)
    found = weights.fetch(checkpoint)
    assert Path(found).read_bytes() == content
    assert found.startswith(str(tmp_path / "cache"))  # the user's folder may be read-only
    assert [path.name for path in folder.iterdir()] == [f"{checkpoint.file}.zip"]
    assert weights.fetch(checkpoint) == found
    assert len(read_published()) == 2 * 23 + 1


def test_a_tilde_in_the_users_folder_is_expanded(published, folder, monkeypatch):
    content, checkpoint = published
    (folder / checkpoint.file).write_bytes(content)
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv(weights.DIRECTORY_VARIABLE, "~/mine")
    assert weights.fetch(checkpoint) == str(folder / checkpoint.file)


def test_a_changed_file_is_rejected(published, folder):
    content, checkpoint = published
    (folder / checkpoint.file).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="its hash is sha1:.*Delete it and download https:") as raised:
        read_published()
    assert str(folder / checkpoint.file) in str(raised.value)
    assert checkpoint.digest in str(raised.value)


def test_a_changed_zip_is_named_and_leaves_no_files(published, folder, tmp_path):
    content, checkpoint = published
    write_zip(folder / f"{checkpoint.file}.zip", checkpoint.file, content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="its hash is sha1:") as raised:
        read_published()
    assert str(folder / f"{checkpoint.file}.zip") in str(raised.value)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_damaged_zip_is_named_and_leaves_no_files(published, folder, tmp_path):
    content, checkpoint = published
    path = folder / f"{checkpoint.file}.zip"
    write_zip(path, checkpoint.file, content)
    damaged = bytearray(path.read_bytes())
    damaged[60:90] = bytes(30)  # in the compressed stream
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        read_published()
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]


def test_a_truncated_zip_is_named(published, folder):
    content, checkpoint = published
    path = folder / f"{checkpoint.file}.zip"
    write_zip(path, checkpoint.file, content)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        read_published()


def test_a_zip_without_the_file_is_rejected(published, folder):
    _, checkpoint = published
    write_zip(folder / f"{checkpoint.file}.zip", "readme.txt", b"hello")
    with pytest.raises(CheckpointError, match="published.tf2.h5.zip: a zip file without weights"):
        read_published()


def test_a_web_page_in_place_of_the_file_is_recognized(published, folder):
    _, checkpoint = published
    (folder / checkpoint.file).write_bytes(b"<!DOCTYPE html><html></html>")
    with pytest.raises(CheckpointError, match="a web page, not weights"):
        read_published()


def test_a_missing_file_is_downloaded(published, folder, monkeypatch, tmp_path):
    content, checkpoint = published
    write_zip(tmp_path / "downloaded.zip", checkpoint.file, content)
    requests = []

    def get_file(name, origin, **_):
        requests.append((name, origin))
        return str(tmp_path / "downloaded.zip")

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    assert Path(weights.fetch(checkpoint)).read_bytes() == content
    assert requests == [("published.tf2.h5.zip", checkpoint.url)]


def test_a_download_is_cached_in_keras_home(published, tmp_path, monkeypatch, real_get_file):
    content, checkpoint = published
    server = tmp_path / "server" / f"{checkpoint.file}.zip"
    server.parent.mkdir()
    write_zip(server, checkpoint.file, content)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    checkpoint = dataclasses.replace(checkpoint, url=server.as_uri())
    found = weights.fetch(checkpoint)
    assert Path(found).read_bytes() == content
    assert found.startswith(str(tmp_path / "home"))
    server.unlink()
    assert weights.fetch(checkpoint) == found  # without the server


def test_the_error_without_a_network_says_where_to_put_the_file(published, folder, monkeypatch):
    _, checkpoint = published

    def get_file(*_, **__):
        raise Exception("URL fetch failure")  # what Keras raises

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    with pytest.raises(OSError, match="URL fetch failure") as raised:
        fd_keras.FDMobileNet(alpha=0.25)
    for hint in (checkpoint.url, checkpoint.file, "FD_KERAS_WEIGHTS_DIR"):
        assert hint in str(raised.value)


def test_the_authors_files_are_read_from_the_users_folder(data, monkeypatch, build):
    monkeypatch.setenv(weights.DIRECTORY_VARIABLE, str(data / "weights"))
    ops = lower(zoo.FD_MOBILENET, 0.25)
    found = weights.read("imagenet_authors", zoo.FD_MOBILENET, 0.25, ops)
    expected = checkpoints.read(data / "weights" / "0.25x-FDMobileNet-224.pth.tar", ops)
    assert found.keys() == expected.keys()


def test_a_tilde_in_a_path_is_expanded(published, monkeypatch, tmp_path):
    content, _ = published
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights.resolve("~/made.h5", zoo.FD_MOBILENET, 0.25) == str(tmp_path / "made.h5")
    assert weights.resolve(tmp_path / "made.h5", zoo.FD_MOBILENET, 0.25) == str(tmp_path / "made.h5")


def test_the_error_for_a_missing_file_names_fitting_files_in_its_folder(tmp_path):
    for name, alpha in (("right.weights.h5", 0.25), ("wide.weights.h5", 0.5)):
        fd_keras.FDMobileNet((32, 32, 3), alpha, weights=None).save_weights(tmp_path / name)
    (tmp_path / "broken.h5").write_bytes(b"broken")
    arch = zoo.get_arch("fd_mobilenet")
    with pytest.raises(ValueError, match=rf"pass one of these paths: {tmp_path}/right\.weights\.h5\.$"):
        weights.resolve(tmp_path / "gone.h5", arch, 0.25)
    with pytest.raises(ValueError, match=rf"no weights in {tmp_path} fit"):
        weights.resolve(tmp_path / "gone.h5", arch, 1.0)
    with pytest.raises(ValueError, match=rf"there is no folder {tmp_path}/none"):
        weights.resolve(tmp_path / "none" / "gone.h5", arch, 1.0)


def test_a_failed_download_names_the_searched_folder(tmp_path, monkeypatch):
    def no_network(*arguments, **options):
        raise RuntimeError("no network")

    monkeypatch.setattr(keras.utils, "get_file", no_network)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(weights.DIRECTORY_VARIABLE, str(tmp_path))
    with pytest.raises(OSError, match=rf"FD_KERAS_WEIGHTS_DIR={tmp_path} does not contain it; no weights in"):
        weights.fetch(CHECKPOINTS[0])
