"""Pictures in folders: what is read, in which split, and what is said of what cannot be."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sealkd_jax.data import load, stream
from sealkd_jax.data.folders import MEAN, STD, load_folder
from sealkd_jax.errors import InputError
from sealkd_jax.programs.commands import distill
from sealkd_jax.programs.presets import PRESETS


def picture(path: Path, colour=(0, 0, 0), size=(40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def flowers(tmp_path):
    """20 training and 3 test pictures of two classes; red is the number of the picture, green the class."""
    folder = tmp_path / "flowers"
    for number in range(20):
        kind = number % 2
        picture(folder / "train" / ("rose", "tulip")[kind] / f"{number:02}.png", (number, 100 * kind, 0))
    for number in range(3):
        picture(folder / "val" / "tulip" / f"{number}.png", (100 + number, 100, 0))
    return folder


def test_classes_are_folders_and_every_picture_is_in_one_split(flowers):
    dataset = load_folder(flowers, 8)
    assert dataset.name == "flowers" and dataset.classes == ("rose", "tulip")
    assert [len(s.labels) for s in (dataset.train, dataset.validation, dataset.test)] == [18, 2, 3]
    seen = []
    for images, labels in (dataset.train, dataset.validation):
        for n, label in enumerate(labels):
            (image,) = images.read(np.array([n]))
            assert image.shape == (8, 8, 3) and image.dtype == np.uint8
            assert (image == image[0, 0]).all() and image[0, 0, 1] == 100 * label
            seen.append(int(image[0, 0, 0]))
    assert sorted(seen) == list(range(20))
    np.testing.assert_array_equal(dataset.test.labels, [1, 1, 1])
    assert (dataset.mean == MEAN).all() and (dataset.std == STD).all()


def test_a_folder_test_makes_val_the_validation_split(flowers):
    picture(flowers / "test" / "rose" / "a.jpg")
    dataset = load_folder(flowers, 8)
    assert [len(s.labels) for s in (dataset.train, dataset.validation, dataset.test)] == [20, 3, 1]


def test_in_memory_or_on_demand_the_data_are_the_same(flowers):
    there, demanded = (load(f"folder:{flowers}", image_size=8, stream=stream) for stream in (False, True))
    assert isinstance(there.train.images, np.ndarray) and there.fingerprint == demanded.fingerprint
    for split in ("train", "validation", "test"):
        images, labels = getattr(there, split)
        np.testing.assert_array_equal(images, getattr(demanded, split).images.read(np.arange(len(labels))))
        np.testing.assert_array_equal(labels, getattr(demanded, split).labels)


def test_the_fingerprint_is_of_names_sizes_and_the_size_asked_for(flowers):
    first = load_folder(flowers, 8).fingerprint
    assert first == load_folder(flowers, 8).fingerprint != load_folder(flowers, 9).fingerprint
    renamed = flowers / "train" / "rose" / "00.png"
    renamed.rename(renamed.with_name("100.png"))
    assert load_folder(flowers, 8).fingerprint != first


def test_the_fingerprint_is_of_those_pictures_that_are_trained_on(flowers):
    held_out = load_folder(flowers, 8).fingerprint
    picture(flowers / "test" / "rose" / "a.jpg")  # all of train is the training split now
    assert load_folder(flowers, 8).fingerprint != held_out


def test_the_middle_is_cut_out_as_torchvision_does(flowers):
    """Resize(256) and CenterCrop(224) of a 512x384 picture: the shorter side to 256, then the middle 224."""
    levels = np.random.default_rng(0).integers(0, 256, (384, 512, 3)).astype(np.uint8)
    Image.fromarray(levels).save(flowers / "val" / "tulip" / "0.png")
    resized = Image.fromarray(levels).resize((341, 256), Image.Resampling.BILINEAR)
    expected = np.asarray(resized)[16:240, 58:282]
    np.testing.assert_array_equal(load_folder(flowers, 224).test.images.read(np.array([0]))[0], expected)


def test_grey_transparent_and_small_pictures_become_rgb_of_the_size(flowers):
    tulips = flowers / "val" / "tulip"
    Image.new("L", (5, 900), 7).save(tulips / "0.png")
    Image.new("RGBA", (1, 1), (7, 7, 7, 0)).save(tulips / "1.png")
    Image.new("CMYK", (60, 60)).save(tulips / "2.jpg")
    (tulips / "2.png").unlink()
    images = load_folder(flowers, 16).in_memory().test.images
    assert images.shape == (3, 16, 16, 3)
    assert (images[:2] == 7).all() and (images[2] == 255).all()


def test_wrong_folders_are_named(flowers, tmp_path):
    with pytest.raises(
        InputError, match="nowhere/train: No such file or directory; expected one folder per class in it"
    ):
        load_folder(tmp_path / "nowhere", 8)
    with pytest.raises(InputError, match="imagenet/train: No such file"):
        load("imagenet", data_dir=tmp_path)
    picture(flowers / "val" / "daisy" / "0.png")
    with pytest.raises(InputError, match="val/daisy: a class that train does not have"):
        load_folder(flowers, 8)
    (flowers / "train" / "weed").mkdir()
    with pytest.raises(InputError, match="train/weed: no pictures; expected files ending in"):
        load_folder(flowers, 8)


def test_a_split_too_small_or_missing_is_named(tmp_path):
    for kind in ("a", "b"):
        picture(tmp_path / "few" / "train" / kind / "0.png")
    with pytest.raises(InputError, match="few: expected a folder val or test beside train"):
        load_folder(tmp_path / "few", 8)
    picture(tmp_path / "few" / "val" / "a" / "0.png")
    with pytest.raises(InputError, match="no tenth of each class can be held out"):
        load_folder(tmp_path / "few", 8)


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
