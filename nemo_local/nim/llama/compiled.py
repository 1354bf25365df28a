"""The compiler of the kernels of inference."""

from pathlib import Path

from nemo_local.core.compiler import Compiler

kernel = Compiler(
    Path(__file__).parent, "amx", "attention", "compiled", "halves", "intrinsics", "kernels",
    "products",
)  # fmt: skip
