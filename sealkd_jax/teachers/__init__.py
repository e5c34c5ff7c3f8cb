"""Teachers from any library: a function of a batch of images, its logits for all views, and a file of them."""

from sealkd_jax.teachers.function import Function, FunctionTeacher
from sealkd_jax.teachers.onnx import load_onnx
from sealkd_jax.teachers.own_file import load_function
from sealkd_jax.teachers.views import function_views, view_batches, write_logits
from sealkd_jax.training.teacher_logits import Outputs, TeacherLogits, view_fingerprints

__all__ = [
    "Function",
    "FunctionTeacher",
    "Outputs",
    "TeacherLogits",
    "function_views",
    "load_function",
    "load_onnx",
    "view_batches",
    "view_fingerprints",
    "write_logits",
]
