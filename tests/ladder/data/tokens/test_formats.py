"""Each format of token files, written byte by byte, is read as it is; what is wrong is a line with its place."""

import struct

import numpy as np
import pytest

from ladder.data.tokens import formats
from ladder.errors import InputError
from tests.ladder.data.tokens import written

IDS = [3, 1, 4, 1, 5, 9, 2, 6]
DOCUMENTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]


def read(file: formats.TokenFile) -> list[int]:
    data = np.fromfile(file.path, np.dtype(file.dtype).newbyteorder("<"), offset=file.start)
    assert len(data) == file.tokens and file.size == file.path.stat().st_size
    return data.tolist()


@pytest.mark.parametrize("dtype", formats.DTYPES)
@pytest.mark.parametrize("version", [1, 2])
def test_numpy_headers(tmp_path, dtype, version):
    file = formats.inspect(written.npy(tmp_path / "a.npy", IDS, dtype, version))
    assert (file.format, file.dtype, read(file)) == ("npy", dtype, IDS)
    np.save(tmp_path / "b.npy", np.array(IDS, dtype))
    assert read(formats.inspect(tmp_path / "b.npy", dtype)) == IDS


def test_a_header_of_odd_length(tmp_path):
    file = formats.inspect(written.npy(tmp_path / "a.npy", IDS, "uint32", padding=1))
    assert file.start % 2 and read(file) == IDS


@pytest.mark.parametrize("name", ["a.npy", "a.bin", "tokens"])
def test_files_without_a_header(tmp_path, name):
    file = formats.inspect(written.raw(tmp_path / name, IDS, "uint16"), "uint16")
    assert (file.format, file.start, read(file)) == ("raw", 0, IDS)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "uint16"])
@pytest.mark.parametrize("form", [{}, {"modes": True}, {"old": True}, {"parts": 3}])
def test_megatron(tmp_path, dtype, form):
    path = written.megatron(tmp_path / "a.bin", DOCUMENTS, dtype, **form)
    file = formats.inspect(path)
    assert (file.format, file.dtype, read(file)) == ("megatron", dtype, [1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert formats.Megatron.open(path.with_suffix(".idx")).document_ends(file.tokens).tolist() == [3, 4, 9]


def test_megatron_in_chunks_and_empty_documents(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "CHUNK", 2)
    path = written.megatron(tmp_path / "a.bin", [[], *DOCUMENTS, [], [7]], "int32", parts=2)
    ends = formats.Megatron.open(path.with_suffix(".idx")).document_ends(10)
    assert ends.tolist() == [3, 4, 9, 10]


def test_what_the_bytes_of_a_megatron_index_mean(tmp_path):
    """Two documents of 2 and 1 tokens, as bytes in hexadecimal."""
    idx = "4d4d494449445800 00 0100000000000000 08 0200000000000000 0300000000000000 02000000 01000000"
    idx += "0000000000000000 0400000000000000 0000000000000000 0100000000000000 0200000000000000"
    (tmp_path / "a.idx").write_bytes(bytes.fromhex(idx))
    (tmp_path / "a.bin").write_bytes(bytes.fromhex("0100 0002 ff00"))
    file = formats.inspect(tmp_path / "a.bin")
    assert (file.dtype, read(file)) == ("uint16", [1, 512, 255])
    assert formats.Megatron.open(tmp_path / "a.idx").document_ends(3).tolist() == [2, 3]


def with_bytes(path, at: int, data: bytes):
    content = bytearray(path.read_bytes())
    content[at : at + len(data)] = data
    path.write_bytes(content)
    return path


def cut(path, n: int):
    path.write_bytes(path.read_bytes()[:n])
    return path


def test_wrong_flat_files(tmp_path):
    name = tmp_path / "a.npy"
    cases = [
        (lambda: written.raw(name, IDS, "uint16"), None, "has no numpy header, so say"),
        (lambda: written.raw(name, IDS, "uint16"), "float32", "dtype 'float32': choose one of uint8"),
        (lambda: cut(written.raw(name, IDS, "uint16"), 15), "uint16", "byte 14: the last 1 of 15 bytes are not a"),
        (lambda: written.npy(name, IDS, "uint16"), "uint32", "its tokens are uint16, not uint32"),
        (lambda: cut(written.npy(name, IDS, "uint16"), 140), None, "byte 140: the file ends here, but its header says"),
        (lambda: cut(written.npy(name, IDS, "uint16"), 20), None, "byte 20: a damaged numpy header"),
        (lambda: with_bytes(written.npy(name, IDS, "uint16"), 6, b"\x09"), None, "a damaged numpy header"),
        (lambda: with_bytes(written.npy(name, IDS, "uint16"), 12, b"\x00"), None, "a damaged numpy header"),
        (lambda: written.npy(name, [], "uint16"), None, "holds no token after its header of 128 bytes"),
        (lambda: name.write_bytes(b""), "uint16", "empty"),
        (lambda: np.save(name, np.ones((2, 3), np.uint16)), None, "an array of the shape (2, 3)"),
        (lambda: np.save(name, np.ones(3, ">u2")), None, "an array of >u2; tokens are little endian"),
        (lambda: np.save(name, np.ones(3)), None, "an array of <f8"),
        (lambda: np.save(name, np.array(["x", {}], object), allow_pickle=True), None, "an array of |O"),
    ]
    for write, dtype, message in cases:
        write()
        with pytest.raises(InputError) as error:
            formats.inspect(name, dtype)
        assert message in str(error.value) and "\n" not in str(error.value)
        assert dtype == "float32" or str(name) in str(error.value)


def test_wrong_megatron_files(tmp_path):
    path, idx = tmp_path / "a.bin", tmp_path / "a.idx"
    ends, pointers = 34, 34 + 12
    cases = [
        (lambda: with_bytes(idx, 0, b"TNTIDX\x00\x00"), "byte 0: not an index of Megatron: it is of the form TNTIDX"),
        (lambda: with_bytes(idx, 0, b"{"), "byte 0: not an index of Megatron; "),
        (lambda: with_bytes(idx, 9, b"\x02"), "byte 9: version 2"),
        (lambda: with_bytes(idx, 17, b"\x07"), "byte 17: 7 is not the code of a dtype of tokens"),
        (lambda: cut(idx, 20), "byte 20: cut within its header"),
        (lambda: cut(idx, 60), "byte 60: the file ends here"),
        (lambda: idx.write_bytes(idx.read_bytes() + b"\0"), "the file ends here"),
        (lambda: with_bytes(idx, pointers + 8, b"\x08"), f"byte {pointers + 8}: sequence 1 does not begin where"),
        (lambda: with_bytes(idx, ends, struct.pack("<i", -3)), f"byte {pointers}: sequence 0 does not begin"),
        (lambda: path.write_bytes(path.read_bytes() + b"\0\0"), "its sequences are 9 tokens, but"),
        (lambda: with_bytes(idx, pointers + 24, b"\x01"), f"byte {pointers + 24}: its documents are not its"),
        (lambda: with_bytes(idx, pointers + 32, b"\x09"), "its documents are not its sequences"),
    ]
    for damage, message in cases:
        written.megatron(path, DOCUMENTS, "uint16")
        damage()
        with pytest.raises(InputError) as error:
            file = formats.inspect(path)
            formats.Megatron.open(idx).document_ends(file.tokens)
        assert message in str(error.value) and str(idx) in str(error.value) and "\n" not in str(error.value)


def test_files_are_found_in_the_order_of_their_names(tmp_path, monkeypatch):
    for name in ("b/2.npy", "b/10.npy", "a.bin", "b.npy", "ladder-index/x.npy", ".hidden/x.npy", "b/notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        written.raw(tmp_path / name, IDS, "uint16")
    written.megatron(tmp_path / "m.bin", DOCUMENTS, "uint16")

    def names(*paths) -> list[str]:
        return [file.relative_to(tmp_path).as_posix() for file in formats.find(paths)]

    everything = ["a.bin", "b/10.npy", "b/2.npy", "b.npy", "m.bin"]
    assert names(tmp_path) == everything
    assert names(tmp_path / "m", tmp_path / "b", tmp_path / "a.bin", tmp_path / "b" / "2.npy") == [
        *everything[:3],
        "m.bin",
    ]
    assert names(tmp_path / "*") == everything
    assert names(f"{tmp_path}/b/*.npy") == ["b/10.npy", "b/2.npy"]
    (tmp_path / "again.npy").symlink_to(tmp_path / "a.bin")
    assert names(tmp_path / "a.bin", tmp_path / "again.npy") == ["a.bin"]
    for path, message in (("nowhere", "no such file"), ("*.x", "no token files here"), ("m.idx", "not a token file")):
        with pytest.raises(InputError, match=message):
            formats.find([tmp_path / path])
