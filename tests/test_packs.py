"""The form of a pack: equal bytes for equal contents, and every other byte refused, in one file and in parts."""

import hashlib
import io
import os
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isonb.running import packs

FILES = {"results/a.json": b"{}", "results/b.npz": bytes(range(256)) * 600, "checkpoints/c": b"", "z": b"\0" * 511}


def contents_of(files):
    listed = [packs.Entry(name=n, size=len(c), sha256=hashlib.sha256(c).hexdigest()) for n, c in files.items()]
    return packs.Contents(format=1, isonb="0", schema_version=1, numerics=1, study="smoke", files=listed)


def write(path, files=FILES, part_size=0):
    return packs.write(path, contents_of(files), lambda entry: files[entry.name], part_size)


def read(path):
    with packs.opened(path) as pack:
        return {entry.name: content for entry, content in pack.each()}


def small_parts(tmp_path, name="pack", files=FILES):
    return write(tmp_path / name, files, packs.SMALLEST_PART)


def test_a_pack_is_a_tar_archive_of_its_list_and_its_files_without_times_and_owners(tmp_path):
    [path] = write(tmp_path / "pack")
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        assert [member.name for member in members] == ["pack.json", *FILES]
        assert {(member.mtime, member.uid, member.uname, member.isreg()) for member in members} == {(0, 0, "", True)}
        assert archive.extractfile("results/b.npz").read() == FILES["results/b.npz"]
    assert packs.length(contents_of(FILES)) == path.stat().st_size
    assert read(path) == FILES


def test_equal_contents_are_equal_bytes_and_one_other_bit_is_another_pack(tmp_path):
    one, two, other = (write(tmp_path / name, files)[0] for name, files in
                       (("1", FILES), ("2", dict(FILES)), ("3", FILES | {"z": b"\1" + bytes(510)})))  # fmt: skip
    assert one.read_bytes() == two.read_bytes() != other.read_bytes()
    assert contents_of(FILES).digest() != contents_of(FILES | {"z": b"\1" + bytes(510)}).digest()


def test_parts_are_as_large_as_is_said_at_most_and_give_the_same_files(tmp_path):
    parts = small_parts(tmp_path)
    whole = packs.length(contents_of(FILES))
    assert [part.name for part in parts] == [f"pack.{number:03d}" for number in range(1, 4)]
    assert [part.stat().st_size <= packs.SMALLEST_PART for part in parts] == [True] * 3
    assert sum(part.stat().st_size for part in parts) < whole + 3 * 4096
    assert read(tmp_path / "pack") == read(parts[0]) == read(parts[2]) == FILES
    assert write(tmp_path / "one", part_size=2**20) == [tmp_path / "one"]  # in which all finds room


def refusal(path):
    with pytest.raises(packs.PackError) as error:
        read(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_parts_that_are_missing_mixed_or_misnamed_are_named(tmp_path):
    parts = small_parts(tmp_path)
    others = small_parts(tmp_path, "other", FILES | {"z": b"\1" * 511})
    second = parts[1].read_bytes()
    parts[1].unlink()
    assert refusal(tmp_path / "pack") == f"Of the pack {tmp_path}/pack, 3 parts, pack.002 are missing: add them."
    parts[1].write_bytes(others[1].read_bytes())
    assert refusal(parts[0]).startswith(f"{parts[1]} is a part of another pack than {parts[0].name}:")
    parts[1].write_bytes(parts[2].read_bytes())
    assert refusal(parts[0]) == f"{parts[1]} is part 3 of its pack: give it back the name that it had."
    parts[1].write_bytes(second)
    assert read(parts[0]) == FILES
    (tmp_path / "pack.004").write_bytes(others[2].read_bytes())  # of an earlier pack that had more
    assert read(parts[0]) == FILES
    (tmp_path / "pack").touch()
    assert "remove the older one" in refusal(tmp_path / "pack")


def test_a_new_pack_takes_the_place_of_an_older_one_and_of_its_parts_and_of_nothing_else(tmp_path):
    small_parts(tmp_path)
    [path] = write(tmp_path / "pack")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["pack"]
    small_parts(tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["pack.001", "pack.002", "pack.003"]
    for name in ("thesis.tex", "link"):
        path = tmp_path / name
        path.write_text("years of work") if name == "thesis.tex" else path.symlink_to(tmp_path / "nowhere")
        with pytest.raises(packs.PackError, match="is there and is no pack: choose another name, or remove it"):
            write(path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    (tmp_path / "thesis.tex.001").write_text("chapter 1")
    (tmp_path / "thesis.tex").unlink()
    with pytest.raises(packs.PackError, match=r"thesis.tex.001 is there and is no pack"):
        write(tmp_path / "thesis.tex")
    with pytest.raises(packs.PackError, match="is a name of a part"):
        write(tmp_path / "pack.001")


def test_what_changes_while_it_is_packed_leaves_the_older_pack(tmp_path):
    [path] = write(tmp_path / "pack")
    before = path.read_bytes()
    with pytest.raises(packs.PackError, match="z has changed while it was packed: run the same command again"):
        packs.write(path, contents_of(FILES), lambda entry: FILES[entry.name] + b"1" * (entry.name == "z"))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A whole pack and one in parts: the bytes of each file by its name."""
    folder = tmp_path_factory.mktemp("made")
    kinds = {False: write(folder / "pack"), True: small_parts(folder, "parts")}
    return {parted: {path.name: path.read_bytes() for path in paths} for parted, paths in kinds.items()}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_change_of_every_byte_is_noticed(data, made, tmp_path):
    """Bits flipped, bytes cut out or put in, at any place: one sentence, or what was packed where nothing changed."""
    files = made[data.draw(st.booleans())]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    first = tmp_path / min(files)
    path = tmp_path / data.draw(st.sampled_from(sorted(files)))
    whole = files[path.name]
    # headers, the list and ends are a small part of a pack, and half of the places
    place = data.draw(
        st.integers(0, len(whole) - 1) | st.integers(0, 4096) | st.integers(len(whole) - 2048, len(whole) - 1)
    )
    kind = data.draw(st.sampled_from(["flip", "cut", "remove", "insert", "zero"]))
    count = data.draw(st.integers(1, 600))
    changed = {
        "flip": whole[:place] + bytes([whole[place] ^ 1 << data.draw(st.integers(0, 7))]) + whole[place + 1 :],
        "cut": whole[:place],
        "remove": whole[:place] + whole[place + count :],
        "insert": whole[:place] + data.draw(st.binary(min_size=count, max_size=count)) + whole[place:],
        "zero": whole[:place] + bytes(len(whole[place : place + count])) + whole[place + count :],
    }[kind]
    path.write_bytes(changed)
    if changed == whole:
        assert read(first) == FILES
    else:
        refusal(first)


def archive(*members, form=tarfile.USTAR_FORMAT):
    """A tar archive of other members than a pack has."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as made:
        for member, content in members:
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def member(name, kind=tarfile.REGTYPE, **about):
    made = tarfile.TarInfo(name)
    made.type = kind
    for what, value in about.items():
        setattr(made, what, value)
    return made


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_folders_and_devices_are_no_files_of_a_pack(kind, tmp_path):
    listed = contents_of({"results/a.json": b""}).sealed()
    content = archive((member("pack.json"), listed), (member("results/a.json", kind, linkname="/etc/passwd"), b""))
    (tmp_path / "pack").write_bytes(content[: packs.length(contents_of({"results/a.json": b""}))])
    assert "results/a.json does not begin where it should" in refusal(tmp_path / "pack")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\3\4" + bytes(2000),
        bytes(4096),
        archive((member("other.json"), b"{}")),
        archive((member("pack.json"), b"{}")),
        archive((member("pack.json"), b"[" * 100_000)),
        archive((member("pack.json"), b'{"sha256": NaN}')),
        archive((member("a" * 200), b"{}"), form=tarfile.PAX_FORMAT),
        archive((member("pack.json", mode=0o777), contents_of({}).sealed())),
        packs._header("pack.json", 2**33 - 1) + bytes(9000),  # a list of eight gigabytes
    ],
)
def test_what_is_no_pack_is_one_sentence(content, tmp_path):
    (tmp_path / "pack").write_bytes(content)
    assert refusal(tmp_path / "pack").startswith(f"{tmp_path}/pack cannot be used as a pack (")


def test_a_list_that_promises_more_than_there_is_allocates_nothing(tmp_path):
    """Eight gigabytes a file, a thousand of them, in a pack of a hundred kilobytes."""
    huge = [packs.Entry(name=f"f{n}", size=packs.FILE_LIMIT, sha256="0" * 64) for n in range(1000)]
    listed = contents_of({}).model_copy(update={"files": huge}).sealed()
    (tmp_path / "pack").write_bytes(archive((member("pack.json"), listed)))
    assert "it is not as long as its list says" in refusal(tmp_path / "pack")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.mkdir(), lambda path: path.symlink_to(path)])
def test_what_is_no_regular_file_is_one_sentence(make, tmp_path):
    make(tmp_path / "pack")
    assert str(tmp_path / "pack") in refusal(tmp_path / "pack")
    assert str(tmp_path / "none") in refusal(tmp_path / "none")
