"""A folder of pictures as a list: its order, its classes, what is passed over, and what the disk can refuse."""

import os

import pytest

from isonb.training.sources import DataError
from isonb.training.sources.tree import File, printable, subfolders, walk


@pytest.fixture
def touch(tmp_path):
    """Makes files below a folder of their own, by path and content."""

    def make(**files):
        for path, content in files.items():
            place = os.fsencode(tmp_path / "root") + b"/" + os.fsencode(path)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "wb") as file:
                file.write(content)
        return tmp_path / "root"

    return make


def refusal(folder):
    with pytest.raises(DataError) as caught:
        walk(folder)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert ". " not in message
    return message


def test_pictures_are_listed_by_the_bytes_of_their_paths_and_belong_to_the_folder_at_the_top(touch):
    names = ["b/1.jpg", "a/z.PNG", "a/Z.png", "é/1.gif", "a/below/the/1.WebP", "a-/1.bmp", "B/10.jpeg", "B/9.jpeg"]
    tree = walk(touch(**dict.fromkeys(names, b"12")))
    # - is 2d, / is 2f, and capitals come before small letters, which come before what is not ASCII
    assert [file.path for file in tree.files] == [
        *["B/10.jpeg", "B/9.jpeg", "a-/1.bmp", "a/Z.png", "a/below/the/1.WebP", "a/z.PNG", "b/1.jpg", "é/1.gif"]
    ]
    assert tree.classes == ("B", "a", "a-", "b", "é")
    assert tree.labels == [0, 0, 2, 1, 1, 1, 3, 4]
    assert (tree.skipped, tree.strays) == ((), 0)


def test_size_and_time_of_change_are_the_disks(touch):
    root = touch(**{"a/1.jpg": b"12345"})
    os.utime(root / "a" / "1.jpg", ns=(1, 1_234_567_890_123_456_789))
    assert walk(root).files == (File("a/1.jpg", 5, 1_234_567_890_123_456_789),)


def test_other_files_are_counted_and_hidden_folders_not_entered(touch):
    names = ["a/1.jpg", "a/README", "b/README", "a/notes.txt", ".DS_Store", "a/.1.jpg", ".cache/1.jpg", "a/Thumbs.db"]
    names += ["2.jpg", "3.png", "jpg", "a/.jpg"]
    tree = walk(touch(**dict.fromkeys(names, b"1")))
    assert [file.path for file in tree.files] == ["a/1.jpg"]
    assert tree.classes == ("a",)  # b has no picture
    assert tree.skipped == ((".db", 1), (".txt", 1), ("README", 2), ("hidden", 4), ("jpg", 1))
    assert tree.strays == 2


def test_names_of_any_bytes_are_read_and_said_in_one_line(touch):
    root = touch(**{os.fsdecode(b"new\nline/\xff\xe9.jpg"): b"1", "tab\there/1.jpg": b"1"})
    tree = walk(root)
    assert [os.fsencode(file.path) for file in tree.files] == [b"new\nline/\xff\xe9.jpg", b"tab\there/1.jpg"]
    assert [printable(name) for name in tree.classes] == ["new\\nline", "tab\\there"]
    assert printable(tree.files[0].path) == "new\\nline/\\xff\\xe9.jpg"
    assert printable("Bär 1 – café.png") == "Bär 1 – café.png"


def test_links_are_followed(touch, tmp_path):
    root = touch(**{"a/1.jpg": b"1"})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "2.jpg").write_bytes(b"22")
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "3.jpg").symlink_to(tmp_path / "elsewhere" / "2.jpg")
    (root / "a" / "nothing.txt").symlink_to(tmp_path / "nowhere")
    tree = walk(root)
    assert [(file.path, file.size) for file in tree.files] == [("a/1.jpg", 1), ("a/3.jpg", 2), ("b/2.jpg", 2)]
    assert tree.skipped == ((".txt", 1),)


def test_a_link_to_a_folder_that_it_lies_in_is_refused(touch):
    root = touch(**{"a/below/1.jpg": b"1"})
    loop = root / "a" / "below" / "loop"
    loop.symlink_to(root / "a")
    assert refusal(root) == f"{loop} is a link to a folder that contains it: remove it."


def test_links_to_nothing_and_to_themselves_are_refused(touch, tmp_path):
    root = touch(**{"a/1.jpg": b"1"})
    (root / "a" / "2.jpg").symlink_to(tmp_path / "nowhere")
    assert refusal(root).startswith(f"{root / 'a' / '2.jpg'} cannot be read (No such file or directory)")
    (root / "a" / "2.jpg").unlink()
    (root / "a" / "3.jpg").symlink_to(root / "a" / "3.jpg")
    assert refusal(root).startswith(f"{root / 'a' / '3.jpg'} cannot be read (Too many levels of symbolic links)")


def test_what_is_called_a_picture_and_is_no_file_is_refused(touch):
    root = touch(**{"a/1.jpg": b"1"})
    os.mkfifo(root / "a" / "pipe.png")  # to read it would wait for ever
    assert refusal(root) == f"{root / 'a' / 'pipe.png'} is not a regular file: remove it or rename it."


def test_a_folder_that_cannot_be_read_is_refused_by_its_path(touch, monkeypatch):
    root, scandir = touch(**{"a/1.jpg": b"1"}), os.scandir

    def refuse(folder):
        if str(folder).rstrip("/") == str(root / "a"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert f"{root / 'a'} cannot be read (Permission denied): make it readable or remove it." in refusal(root)
    with pytest.raises(DataError, match="nowhere cannot be read"):
        subfolders(root / "nowhere")


def test_subfolders_are_the_visible_ones_right_below(touch):
    root = touch(**{"a/1.jpg": b"1", ".b/1.jpg": b"1", "c/d/1.jpg": b"1", "e.jpg": b"1"})
    assert sorted(subfolders(root)) == ["a", "c"]
