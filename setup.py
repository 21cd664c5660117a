"""What setup.cfg has no words for: the compiled loop of the walk, which is left out where there is no C compiler."""

from setuptools import Extension, setup

FOLDER = "flor_trace/state/_walk_c"
SOURCES = [f"{FOLDER}/{name}.c" for name in ("cells", "memory", "module", "tensors")]

setup(ext_modules=[Extension("flor_trace.state._walk", SOURCES, depends=[f"{FOLDER}/walk.h"], optional=True)])
