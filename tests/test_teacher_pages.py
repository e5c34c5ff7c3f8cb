"""The teachers of docs/bring_your_own as they stand: with stand-ins for the libraries, and with the real ones."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from sealkd_jax import programs
from sealkd_jax.data import Dataset, Split, load
from sealkd_jax.teachers import load_function
from sealkd_jax.teachers.own_file import Place
from tests.helpers.programs import read

FOLDER = Path(__file__).parents[1] / "docs/bring_your_own"
CLASSES = ("cat", "dog", "eel")
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1)).astype(np.uint8)
STUDENT = {"student": "spiking-mlp", "width": 0.25, "epochs": 1, "warmup_epochs": 0, "timesteps": 2, "devices": 1}


def data(classes, shape=(8, 8, 1)):
    images = np.random.default_rng(1).integers(0, 256, (len(classes), *shape)).astype(np.uint8)
    split = Split(images, np.arange(len(classes), dtype=np.int32))
    return Dataset("few", split, split, split, tuple(classes))


def taught_by(library, dataset, function="logits", folder=FOLDER):
    return load_function(Place(folder / f"teacher_{library}.py", function), dataset)


def test_scikit_learn():
    digits = load("digits")
    logits = taught_by("sklearn", digits)(digits.test.images).logits
    assert (logits.argmax(-1) == digits.test.labels).mean() > 0.9 and logits.max() <= 0.01


# ---- stand-ins: what the files ask of a library, and what they make of its answer


class Tensor(np.ndarray):
    """What the files use of PyTorch's tensors."""

    def permute(self, *axes):
        return self.transpose(axes)

    def float(self):
        return self.astype(np.float32)

    def expand(self, *sizes):
        shape = [own if size == -1 else size for own, size in zip(self.shape, sizes, strict=True)]
        return np.broadcast_to(self, shape, subok=True)

    def detach(self):
        return self

    cpu = detach


def as_tensor(values):
    return np.asarray(values).view(Tensor)


@pytest.fixture
def stand_in(monkeypatch):
    """Puts modules of these names and contents in the place of real ones."""

    def put(name, **contents):
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    def interpolate(x, size, mode, antialias):
        assert mode == "bicubic" and antialias
        return x.repeat(size[0] // x.shape[2], 2).repeat(size[1] // x.shape[3], 3)

    functional = put("torch.nn.functional", interpolate=interpolate)
    put("torch.nn", functional=functional)
    put(
        "torch",
        Tensor=Tensor,
        from_numpy=as_tensor,
        tensor=lambda values: as_tensor(values).float(),
        inference_mode=lambda: lambda function: function,
        manual_seed=lambda seed: None,
    )
    return put


def test_timm_sees_normalised_images_of_its_size(stand_in):
    class Classifier:
        def eval(self):
            self.evaluating = True
            return self

        def forward_features(self, x):
            assert self.evaluating and x.shape == (4, 3, 64, 64)
            return x

        def forward_head(self, x, pre_logits):
            assert pre_logits
            return x.mean((2, 3))

        def get_classifier(self):
            return lambda features: features * 2

        def __call__(self, x):
            return self.forward_features(x).mean((2, 3)) * 2

    def create_model(name, num_classes, checkpoint_path):
        assert (name, num_classes, checkpoint_path) == ("resnet18", 10, "")
        return Classifier()

    scale = {"mean": (0.5, 0.25, 0.5), "std": (0.5, 0.5, 0.25)}
    stand_in("timm", create_model=create_model, data=SimpleNamespace(resolve_model_data_config=lambda _: scale))
    outputs = taught_by("timm", data(CLASSES), "logits_and_features")(IMAGES)
    expected = (IMAGES.mean((1, 2)) / 255 - scale["mean"]) / scale["std"]
    np.testing.assert_allclose(outputs.features, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs.logits, 2 * expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(taught_by("timm", data(CLASSES))(IMAGES).logits, outputs.logits)


def test_transformers_processor_is_used_and_its_classes_sorted(stand_in):
    def processor(images, return_tensors):
        assert return_tensors == "pt" and [image.shape for image in images] == [(8, 8, 3)] * 4
        return {"pixel_values": as_tensor(np.stack(images)).float()}

    class Classifier:
        config = SimpleNamespace(id2label=dict(enumerate(("dog", "eel", "cat"))), num_labels=3)

        def eval(self):
            return self

        def __call__(self, pixel_values):
            return SimpleNamespace(logits=pixel_values.mean((1, 2)) * as_tensor([1.0, 2.0, 3.0]))

    named = {"from_pretrained": lambda name: processor if name.startswith("nateraw/") else None}
    stand_in(
        "transformers",
        AutoImageProcessor=SimpleNamespace(**named),
        AutoModelForImageClassification=SimpleNamespace(from_pretrained=lambda name: Classifier()),
    )
    logits = taught_by("transformers", data(CLASSES))(IMAGES).logits
    np.testing.assert_allclose(logits, IMAGES.mean((1, 2)) * [3, 1, 2], rtol=1e-5)


def test_keras_gives_logits_before_its_softmax(stand_in, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("teacher.keras").write_text("weights")
    last = SimpleNamespace(activation="softmax")

    def predict_on_batch(x):
        assert x.dtype == np.float32 and x.max() <= 1 and last.activation == "linear"
        return x.mean((1, 2)).repeat(3, 1)

    network = SimpleNamespace(layers=[last], predict_on_batch=predict_on_batch)
    saving, activations = SimpleNamespace(load_model=lambda _: network), SimpleNamespace(linear="linear")
    stand_in("keras", saving=saving, activations=activations)
    taught = taught_by("keras", data(CLASSES))
    np.testing.assert_allclose(taught(IMAGES).logits, IMAGES.mean((1, 2)).repeat(3, 1) / 255, rtol=1e-5)
    Path("teacher.keras").write_text("other weights")
    assert taught_by("keras", data(CLASSES)).digest != taught.digest


# ---- the real libraries


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_network_of_timm_teaches_a_student(here, promoting, capfd):
    """Random weights, from the file as it stands to the report."""
    pytest.importorskip("timm")
    teacher = f"{FOLDER / 'teacher_timm.py'}:logits_and_features"
    run = programs.distill("digits", teacher=teacher, views=1, train_examples=200, out="run", **STUDENT)
    assert run.summary["teacher"].startswith("digits-teacher_timm-") and run.summary["teacher_accuracy"] < 0.5
    assert "right on the training labels, no better than chance; expected images scaled" in capfd.readouterr().err
    assert Path("run/report.html").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_network_of_keras_teaches(here, promoting, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    images, labels = load("digits").train
    layers = [keras.layers.Flatten(), keras.layers.Dense(64, "relu"), keras.layers.Dense(10, "softmax")]
    network = keras.Sequential([keras.layers.Input((8, 8, 1)), *layers])
    network.compile("adam", "sparse_categorical_crossentropy")
    network.fit(images.astype(np.float32) / 255, labels, epochs=8, verbose=0)
    network.save("teacher.keras")
    found = programs.teacher("digits", teacher=f"{FOLDER / 'teacher_keras.py'}:logits", evaluate=True, devices=1)
    assert found.test_accuracy > 0.8 and found.test_logits.min() < 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_network_of_transformers_teaches(here):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    names = dict(enumerate(("dog", "eel", "cat")))
    config = transformers.ViTConfig(
        **sizes, image_size=16, patch_size=4, id2label=names, label2id={name: k for k, name in names.items()}
    )
    network = transformers.ViTForImageClassification(config).eval()
    network.save_pretrained("vit")
    processor = transformers.AutoImageProcessor.from_pretrained  # the way that the file goes
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained("vit")
    text = (FOLDER / "teacher_transformers.py").read_text()
    Path("teacher_transformers.py").write_text(text.replace("nateraw/vit-base-patch16-224-cifar10", str(here / "vit")))
    logits = taught_by("transformers", data(CLASSES), folder=here)(IMAGES).logits
    seen = processor("vit")(images=list(IMAGES.repeat(3, -1)), return_tensors="pt")
    with torch.inference_mode():
        np.testing.assert_allclose(logits, network(**seen).logits.numpy()[:, [2, 0, 1]], rtol=1e-4, atol=1e-5)
    assert read(Path("vit/config.json"))["id2label"]["0"] == "dog"
