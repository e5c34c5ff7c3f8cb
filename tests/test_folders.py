"""Pictures in folders: what is read, in which split, and what is said of what cannot be."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from sealkd_jax.data import folders, load, stream
from sealkd_jax.data.folders import MEAN, STD, load_folder
from sealkd_jax.data.pictures import Pictures
from sealkd_jax.errors import InputError
from sealkd_jax.programs.commands import distill
from sealkd_jax.programs.presets import PRESETS


def picture(path: Path, colour=(0, 0, 0), size=(40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def flowers(tmp_path):
    """20 training and 4 test pictures of two classes; red is the number of the picture, green the class."""
    folder = tmp_path / "flowers"
    for number in range(20):
        kind = number % 2
        picture(folder / "train" / ("rose", "tulip")[kind] / f"{number:02}.png", (number, 100 * kind, 0))
    for number in range(3):
        picture(folder / "val" / "tulip" / f"{number}.png", (100 + number, 100, 0))
    picture(folder / "val" / "rose" / "0.png", (103, 0, 0))
    return folder


def test_classes_are_folders_and_every_picture_is_in_one_split(flowers):
    dataset = load_folder(flowers, 8)
    assert dataset.name == "flowers" and dataset.classes == ("rose", "tulip")
    assert [len(s.labels) for s in (dataset.train, dataset.validation, dataset.test)] == [18, 2, 4]
    seen = []
    for images, labels in (dataset.train, dataset.validation):
        for n, label in enumerate(labels):
            (image,) = images.read(np.array([n]))
            assert image.shape == (8, 8, 3) and image.dtype == np.uint8
            assert (image == image[0, 0]).all() and image[0, 0, 1] == 100 * label
            seen.append(int(image[0, 0, 0]))
    assert sorted(seen) == list(range(20))
    np.testing.assert_array_equal(dataset.test.labels, [0, 1, 1, 1])
    assert (dataset.mean == MEAN).all() and (dataset.std == STD).all()


def test_a_folder_test_makes_val_the_validation_split(flowers):
    picture(flowers / "test" / "rose" / "a.jpg")
    dataset = load_folder(flowers, 8)
    assert [len(s.labels) for s in (dataset.train, dataset.validation, dataset.test)] == [20, 4, 1]


def test_in_memory_or_on_demand_the_data_are_the_same(flowers):
    there, demanded = (load(f"folder:{flowers}", image_size=8, stream=stream) for stream in (False, True))
    assert isinstance(there.train.images, np.ndarray) and there.fingerprint == demanded.fingerprint
    for split in ("train", "validation", "test"):
        images, labels = getattr(there, split)
        np.testing.assert_array_equal(images, getattr(demanded, split).images.read(np.arange(len(labels))))
        np.testing.assert_array_equal(labels, getattr(demanded, split).labels)


@pytest.mark.parametrize("large", [False, True])
def test_the_fingerprint_is_of_names_contents_and_the_size_asked_for(flowers, monkeypatch, large):
    """Of a large set, times of change stand for the contents."""
    if large:
        monkeypatch.setattr(folders, "MOST_READ", 0)
    changed = picture(flowers / "train" / "rose" / "a.bmp")
    first, old = load_folder(flowers, 8).fingerprint, changed.stat()
    assert first == load_folder(flowers, 8).fingerprint != load_folder(flowers, 9).fingerprint
    picture(changed, (0, 0, 1))
    assert changed.stat().st_size == old.st_size
    if not large:  # then not even the time tells
        os.utime(changed, ns=(old.st_atime_ns, old.st_mtime_ns))
    second = load_folder(flowers, 8).fingerprint
    changed.rename(changed.with_name("b.bmp"))
    assert len({first, second, load_folder(flowers, 8).fingerprint}) == 3


def test_the_fingerprint_is_of_those_pictures_that_are_trained_on(flowers):
    held_out = load_folder(flowers, 8).fingerprint
    picture(flowers / "test" / "rose" / "a.jpg")  # all of train is the training split now
    assert load_folder(flowers, 8).fingerprint != held_out


def test_the_middle_is_cut_out_as_torchvision_does(flowers):
    """Resize(256) and CenterCrop(224) of a 512x384 picture: the shorter side to 256, then the middle 224."""
    levels = np.random.default_rng(0).integers(0, 256, (384, 512, 3)).astype(np.uint8)
    Image.fromarray(levels).save(flowers / "val" / "rose" / "0.png")
    resized = Image.fromarray(levels).resize((341, 256), Image.Resampling.BILINEAR)
    expected = np.asarray(resized)[16:240, 58:282]
    np.testing.assert_array_equal(load_folder(flowers, 224).test.images.read(np.array([0]))[0], expected)


def decoded(path: Path, size: int = 8) -> np.ndarray:
    (image,) = Pictures([path], size).read(np.array([0]))
    assert image.shape == (size, size, 3) and image.dtype == np.uint8
    return image


def test_every_kind_of_picture_becomes_rgb(tmp_path):
    """Plain pictures, whose value follows from the definition of their mode."""

    def of(name: str, image: Image.Image, **how) -> list[int]:
        image.save(tmp_path / name, **how)
        pixels = decoded(tmp_path / name)
        assert (pixels == pixels[0, 0]).all()
        return pixels[0, 0].tolist()

    for level in (0, 128, 129, 1000, 65535):  # a 16th of them would be white if they were cut off at 255
        levels = np.full((9, 20), level, np.uint16)
        expected = [int(np.round(level / 257))] * 3
        for ending in ("png", "tif"):
            assert of(f"{level}.{ending}", Image.fromarray(levels)) == expected
        (tmp_path / "a.pgm").write_bytes(b"P5 20 9 65535 " + levels.astype(">u2").tobytes())
        assert decoded(tmp_path / "a.pgm")[0, 0].tolist() == expected
    palette = Image.new("P", (20, 9), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert of("a.gif", palette) == of("a.png", palette) == [10, 20, 30]
    assert of("b.png", palette, transparency=1) == [255] * 3
    assert of("rgba.png", Image.new("RGBA", (9, 20), (200, 100, 0, 51))) == [244, 224, 204]  # a fifth, on white
    assert of("clear.webp", Image.new("RGBA", (9, 20), (7, 7, 7, 0)), lossless=True) == [255] * 3
    assert of("la.png", Image.new("LA", (9, 20), (100, 255))) == [100] * 3
    assert of("cmyk.tif", Image.new("CMYK", (20, 9), (55, 0, 255, 0))) == [200, 255, 0]
    assert of("1.png", Image.new("1", (20, 9), 1)) == [255] * 3
    assert of("l.bmp", Image.new("L", (1, 1), 7)) == [7] * 3
    frames = [Image.new("RGB", (20, 9), colour) for colour in ("red", "blue")]
    for name in ("moving.gif", "moving.png", "moving.webp", "pages.tiff"):
        how = {"lossless": True} if name.endswith("webp") else {}
        assert of(name, frames[0], save_all=True, append_images=frames[1:], **how) == [255, 0, 0]


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_lies_as_its_viewers_show_it(tmp_path, orientation, ending):
    quarters = np.kron([[30, 90], [150, 210]], np.ones((16, 32))).astype(np.uint8)
    exif, path = Image.Exif(), tmp_path / f"a.{ending}"
    exif[0x0112] = orientation
    Image.fromarray(quarters).convert("RGB").save(path, exif=exif, **({"lossless": True} if ending == "webp" else {}))
    with Image.open(path) as image:
        shown = np.asarray(ImageOps.exif_transpose(image))
    height, width = shown.shape[:2]
    corners = shown[[0, -1]][:, [0, -1], 0]
    assert (height > width) == (orientation > 4)
    np.testing.assert_allclose(decoded(path, 14)[[0, -1]][:, [0, -1], 0].astype(int), corners, atol=2)


@pytest.mark.parametrize("sides", [(2, 30_000), (30_000, 2), (1, 60_000), (60_000, 1)])
def test_a_very_long_picture_takes_the_memory_of_a_square(tmp_path, sides):
    picture(tmp_path / "a.png", (9, 8, 7), sides)
    image, largest = Image.Image.resize, []

    def resize(self, size, *arguments):
        largest.append(max(size))
        return image(self, size, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "resize", resize)
        assert (decoded(tmp_path / "a.png", 224) == [9, 8, 7]).all()
    assert max(largest) <= 4 * 256


def test_levels_without_a_known_white_are_refused_before_any_work(flowers):
    signed = {339: 2}  # the format of the samples; Pillow reads 8 bits as if they had no sign
    floats, integers, bytes_ = np.ones((4, 4), np.float32), np.full((4, 4), 70_000, np.int32), np.ones((4, 4), np.uint8)
    for levels, tags in ((floats, {}), (integers, {}), (bytes_, signed)):
        Image.fromarray(levels).save(flowers / "val" / "rose" / "a.tif", tiffinfo=tags)
        with pytest.raises(InputError, match=r"rose/a.tif: .*have no known white; save it with 8 or 16 bits"):
            load_folder(flowers, 8)


def test_what_is_left_out_or_changed_is_counted_with_an_example(flowers):
    """As file managers, notebooks and macOS leave folders behind."""
    before = load_folder(flowers, 8)
    roses = flowers / "train" / "rose"
    shutil.copytree(roses, flowers / "train" / ".ipynb_checkpoints")
    shutil.copytree(roses, roses / "__MACOSX")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (roses / name).write_bytes(b"\0")
    (roses / "._00.png").write_bytes(b"\0\5\26\7")
    (roses / "notes.txt").touch()
    (flowers / "train" / "labels.csv").touch()
    (flowers / "valid").mkdir()
    (roses / "gone.png").symlink_to("nowhere")
    (roses / "again.png").symlink_to("00.png")
    (roses / "around").symlink_to(flowers)
    (roses / "other").symlink_to(flowers / "train" / "tulip")
    (flowers / "train" / "tulip" / "back").symlink_to(roses)
    os.mkfifo(roses / "pipe.png")
    with pytest.warns(UserWarning, match="flowers: left out: ") as caught:
        after = load_folder(flowers, 8)
    (text,) = [str(warning.message).replace(f"{flowers}/", "") for warning in caught]
    for words in (
        "hidden files or folders: 3, such as train/.ipynb_checkpoints",
        "files outside of a class's folder: 1, such as train/labels.csv",
        "files of other kinds: 1, such as train/rose/notes.txt",
        "links to what is read already: 3, such as train/rose/again.png",
        "dead links: 1, such as train/rose/gone.png",
        "circular links: 1, such as train/rose/around",
        "pipes, sockets or devices: 1, such as train/rose/pipe.png",
        "folders beside train, val and test: 1, such as valid",
    ):
        assert words in text
    assert (before.classes, before.fingerprint) == (after.classes, after.fingerprint)


def test_pictures_in_subfolders_belong_to_the_class(flowers):
    for number in range(20):
        here = flowers / "train" / ("rose", "tulip")[number % 2] / f"{number:02}.png"
        picture(here.parent / "more" / "deep" / here.name, (number, 0, 200), (50, 50))
    data = load_folder(flowers, 8)
    labels = np.concatenate([data.train.labels, data.validation.labels])
    assert np.bincount(labels).tolist() == [20, 20]


def test_changed_pixels_and_pictures_of_two_splits_are_said(flowers):
    roses = flowers / "train" / "rose"
    Image.new("RGBA", (9, 9), (1, 1, 1, 0)).save(roses / "a.png")
    Image.fromarray(np.ones((9, 9), np.uint16)).save(roses / "b.png")
    Image.new("L", (9, 9), 1).save(roses / "c.gif", save_all=True, append_images=[Image.new("L", (9, 9), 2)])
    shutil.copy(roses / "00.png", flowers / "val" / "rose" / "copy.png")
    with pytest.warns(UserWarning) as caught:
        load_folder(flowers, 8)
    changed, twice = [str(warning.message).replace(f"{flowers}/", "") for warning in caught]
    assert (
        "pictures with an alpha channel or a transparent colour, put on white: 1, such as train/rose/a.png" in changed
    )
    assert "pictures of 16 bits, read as level / 257: 1, such as train/rose/b.png" in changed
    assert "pictures with several frames or pages, of which the first is read: 1, such as train/rose/c.gif" in changed
    assert "1 pictures of test are in train too, such as val/rose/copy.png" in twice


def test_wrong_folders_are_named(flowers, tmp_path):
    with pytest.raises(InputError, match="nowhere: No such file or directory; expected one folder per class in it"):
        load_folder(tmp_path / "nowhere", 8)
    with pytest.raises(InputError, match="imagenet: No such file"):
        load("imagenet", data_dir=tmp_path)
    picture(flowers / "val" / "daisy" / "0.png")
    with pytest.raises(InputError, match="val/daisy: a class that train does not have"):
        load_folder(flowers, 8)
    shutil.rmtree(flowers / "val" / "daisy")
    (flowers / "train" / "weed").mkdir()
    with pytest.raises(InputError, match="train/weed: no pictures; expected files ending in"):
        load_folder(flowers, 8)


def test_a_class_of_which_a_split_has_no_picture_is_said(flowers):
    shutil.rmtree(flowers / "val" / "rose")
    with pytest.warns(UserWarning, match="flowers: no test example of 1 of the 2 classes, such as rose"):
        load(f"folder:{flowers}", image_size=8)


@pytest.mark.parametrize("name", ["a\nb", b"\xff".decode(errors="surrogateescape")])
def test_a_class_whose_name_cannot_be_printed_is_refused(flowers, name):
    picture(flowers / "train" / name / "0.png")
    with pytest.raises(InputError, match=r"train: a folder named '.*'; expected a name that can be printed"):
        load_folder(flowers, 8)


def test_without_val_and_test_a_fifth_and_a_tenth_are_held_out(tmp_path):
    """Of train, or of the folders themselves; every class is in each split."""
    for number in range(150):
        picture(tmp_path / "pets" / "abc"[number % 3] / f"{number}.png", (number, 0, 0))
    flat = load_folder(tmp_path / "pets", 8)
    (tmp_path / "whole").mkdir()
    shutil.copytree(tmp_path / "pets", tmp_path / "whole" / "train")
    in_train = load_folder(tmp_path / "whole", 8)
    assert flat.classes == in_train.classes == ("a", "b", "c")
    assert (flat.test.labels == in_train.test.labels).all()
    assert [len(s.labels) for s in splits(flat)] == [105, 15, 30]
    for split in splits(flat):
        assert len(set(np.bincount(split.labels))) == 1
    seen = [image[0, 0, 0] for s in splits(flat) for image in s.images.read(np.arange(len(s.labels)))]
    assert sorted(seen) == list(range(150))


def test_few_pictures_of_many_classes_are_split_and_a_class_of_two_is_refused(tmp_path):
    for number in range(36):
        picture(tmp_path / "a" / f"{number % 12:02}" / f"{number}.png", (number, 0, 0))
    assert [len(s.labels) for s in splits(load_folder(tmp_path / "a", 8))] == [12, 12, 12]
    for number in range(2):
        picture(tmp_path / "b" / "train" / "xy"[number] / "0.png")
    with pytest.raises(InputError, match=r"b/train/x/0.png: the only one of its class .*give a folder val or test"):
        load_folder(tmp_path / "b", 8)


def splits(dataset):
    return dataset.train, dataset.validation, dataset.test


def test_tiny_imagenet_is_read_as_its_archive_unpacks(tmp_path):
    root, kinds = tmp_path / "tiny-imagenet-200", ("n01443537", "n01629819")
    for number in range(20):
        picture(root / "train" / kinds[number % 2] / "images" / f"{number}.JPEG", (10 * number, 0, 0), (8, 8))
        (root / "train" / kinds[number % 2] / f"{kinds[number % 2]}_boxes.txt").touch()
    lines = [f"val_{number}.JPEG\t{kinds[number % 3 % 2]}\t0\t0\t8\t8" for number in range(6)]
    for number in range(7):
        picture(root / "val" / "images" / f"val_{number}.JPEG", (0, 20 + 10 * number, 0), (8, 8))
    picture(root / "test" / "images" / "test_0.JPEG")
    table = root / "val" / "val_annotations.txt"
    table.write_text("\n".join(lines) + "\n")
    with pytest.warns(UserWarning, match="files that val_annotations.txt does not have: 1, such as .*val_6.JPEG"):
        data = load("tiny-imagenet", data_dir=tmp_path, image_size=8)
    assert data.classes == kinds and data.test.labels.tolist() == [0, 1, 0, 0, 1, 0]
    assert [len(s.labels) for s in splits(data)] == [18, 2, 6]
    for wrong, words in (("val_0.JPEG\tn9", "line 1: 'val_0.JPEG.*n9': expected"), ("../a\tn01443537", "line 1")):
        table.write_text(wrong)
        with pytest.raises(InputError, match=f"val_annotations.txt: {words}"):
            load("tiny-imagenet", data_dir=tmp_path, image_size=8)
    table.write_text("val_9.JPEG\tn01443537")
    with pytest.raises(InputError, match=r"val_9.JPEG: No such file or directory, but val_annotations.txt has it"):
        load("tiny-imagenet", data_dir=tmp_path, image_size=8)


def test_imagenet_100_is_read_in_the_parts_that_it_is_published_in(tmp_path):
    for part, kinds in (("train.X1", "ab"), ("train.X2", "cd"), ("val.X", "abcd")):
        for kind in kinds:
            for number in range(10):
                colour = (20 * number, 60 * "abcd".index(kind), 20 * len(part))
                picture(tmp_path / "imagenet100" / part / kind / f"{number}.JPEG", colour)
    data = load("imagenet100", data_dir=tmp_path, image_size=8, stream=True)
    assert data.classes == tuple("abcd") and [len(s.labels) for s in splits(data)] == [36, 4, 40]


@pytest.mark.parametrize("name", ["Train", "valid", "testing"])
def test_folders_of_splits_are_not_taken_for_classes(tmp_path, name):
    for kind in (name, "others"):
        picture(tmp_path / kind / "rose" / "0.png")
    with pytest.raises(InputError, match=f"train: no such folder, but {name} beside it; expected train, val and test"):
        load_folder(tmp_path, 8)


def test_a_picture_of_the_size_asked_for_stays_as_it_is(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(levels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decoded(tmp_path / "a.png"), levels)


@pytest.mark.parametrize("damage", [b"", b"no picture", "cut"])
def test_a_damaged_picture_is_named_when_it_is_read(flowers, damage):
    path = flowers / "val" / "tulip" / "1.png"
    path.write_bytes(path.read_bytes()[:60] if damage == "cut" else damage)
    with pytest.raises(InputError, match=r"tulip/1\.png: cannot be read as a picture"):
        load(f"folder:{flowers}", image_size=8)


def test_a_folder_that_vanishes_while_it_is_read_is_named(flowers):
    train = load(f"folder:{flowers}", image_size=8, stream=True).train
    shutil.rmtree(flowers)
    with pytest.raises(InputError, match=r"flowers.*: cannot be read as a picture \(.*No such file"):
        list(stream(train, np.arange(len(train.labels)), 2))


@pytest.mark.slow
def test_a_student_learns_from_streamed_pictures(flowers, tmp_path, monkeypatch, capsys):
    """Pure red against pure green-and-red is learned by anything that sees pixels and labels in the same order."""
    monkeypatch.chdir(tmp_path)
    options = {
        "dataset": f"folder:{flowers}",
        "image-size": "8",
        "method": "none",
        "student": "spiking-mlp",
        "width": "0.1",
        "batch-size": "6",
        "epochs": "12",
        "timesteps": "2",
        "views": "2",
        "augment": "resized_crop(0.08) | flip | autoaugment(imagenet)",
        "optimizer": "adamw",
        "learning-rate": "0.03",
        "devices": "1",
    }
    distill.main(["imagenet", "--stream", *(word for name, value in options.items() for word in (f"--{name}", value))])
    assert "100.00%" in capsys.readouterr().out


@pytest.mark.slow
def test_the_presets_cutout_is_half_of_small_pictures_too(flowers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    preset = PRESETS["imagenet"]
    quick = replace(preset.teacher, epochs=1, batch_size=6, augment="cutout(0.5)", learning_rate=0.01)
    monkeypatch.setitem(PRESETS, "imagenet", preset._replace(teacher=quick))
    options = f"--dataset folder:{flowers} --image-size 8 --teacher convnet --student spiking-mlp --width 0.1"
    options += " --batch-size 6 --epochs 1 --timesteps 1 --views 1 --devices 1"
    with pytest.raises(InputError, match=r"augment cutout\(112\): larger than the images, of 8 pixels"):
        distill.main(["imagenet", *options.split(), "--augment", "cutout(112)"])
    assert not Path("runs").exists()
    distill.main(["imagenet", *options.split()])
    (path,) = Path("runs/teachers").glob("*/teacher.json")
    assert json.loads(path.read_text())["options"]["augment"] == "cutout(0.5)"
