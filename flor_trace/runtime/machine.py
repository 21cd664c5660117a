"""What of the machine the bits of a result depend on: instruction sets, thread counts, versions, libraries for linear algebra.

Recorded at the first snapshot behind each library's import, without changing anything. Replay sets up what it can before a library
starts: environment variables that only C code sees (`os.environ` stays what it was when recorded), and torch's thread counts right
after its import. What is left is named, and the verdict is then "within tolerance" at best.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from typing import Any

Facts = dict[str, Any]

# The libraries whose versions matter to numbers, by module: the name of their distribution.
DISTRIBUTIONS = {
    "torch": "torch", "numpy": "numpy", "scipy": "scipy", "sklearn": "scikit-learn", "pandas": "pandas",
    "torchvision": "torchvision", "transformers": "transformers",
}  # fmt: skip
_FLAG_PREFIXES = ("avx", "fma", "sse4", "bmi", "f16c", "amx", "asimd", "sve", "bf16", "i8mm")
# torch's name for what it dispatches to → the variables by which torch, oneDNN and MKL can be held to it.
_CAPABILITY_VARIABLES = {
    "DEFAULT": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}


# -- what is here -------------------------------------------------------------------------------------------------------


def capture() -> Facts:
    """The facts about this machine and the libraries imported so far, as JSON-able builtins."""
    facts: Facts = {**present(), "python": ".".join(str(part) for part in sys.version_info[:3]), "versions": versions()}
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and hasattr(torch, "default_generator"):
        facts["torch"] = _torch(torch)
    if numpy is not None and hasattr(numpy, "geterr"):
        facts["numpy"] = _numpy(numpy)
    return facts


def present() -> Facts:
    """What is known of this machine before any library is imported."""
    return {"cpu": cpu(), "cpus": len(os.sched_getaffinity(0))}


def imported() -> frozenset[str]:
    """The modules of `DISTRIBUTIONS` that have been imported."""
    return frozenset(name for name in DISTRIBUTIONS if hasattr(sys.modules.get(name), "__version__"))


def versions() -> dict[str, str]:
    """The version of each imported library whose numerics matter, by distribution."""
    return {DISTRIBUTIONS[name]: str(sys.modules[name].__version__) for name in sorted(imported())}


def cpu() -> dict[str, Any]:
    """The processor's vendor and those of its flags that decide which code a library picks."""
    found: dict[str, Any] = {"vendor": "", "flags": []}
    try:
        with open("/proc/cpuinfo", "rb", buffering=0) as file:
            text = file.read(8192).decode(errors="replace")  # the first processor's part; the kernel makes no more than is read
    except OSError:
        return found
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("vendor_id", "CPU implementer") and not found["vendor"]:
            found["vendor"] = value.strip()
        elif name.strip() in ("flags", "Features") and not found["flags"]:
            found["flags"] = sorted(flag for flag in value.split() if flag.startswith(_FLAG_PREFIXES))
    return found


def _torch(torch: Any) -> Facts:
    backends = torch.backends
    facts: Facts = {
        "threads": torch.get_num_threads(),
        "interop": torch.get_num_interop_threads(),
        "capability": backends.cpu.get_cpu_capability() if hasattr(backends, "cpu") else "",
        "mkl": bool(backends.mkl.is_available()),
        "mkldnn": bool(backends.mkldnn.is_available()),
        "cuda": torch.version.cuda or "",
        "devices": [],
    }
    if torch.cuda.is_initialized():
        facts["devices"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        facts["cudnn"] = backends.cudnn.version()
    return facts


def _numpy(numpy: Any) -> Facts:
    core = sys.modules.get("numpy._core._multiarray_umath") or sys.modules.get("numpy.core._multiarray_umath")
    dispatch = list(getattr(core, "__cpu_dispatch__", []))
    features = getattr(core, "__cpu_features__", {})
    return {"dispatch": dispatch, "active": [name for name in dispatch if features.get(name)], **_openblas()}


def _openblas() -> Facts:
    """The kernels and threads of NumPy's own OpenBLAS; nothing where it uses another library."""
    name, count = _openblas_function("get_corename"), _openblas_function("get_num_threads")
    if name is None or count is None:
        return {}
    name.restype = ctypes.c_char_p
    return {"blas": f"OpenBLAS for {name().decode()}", "blas_threads": int(count())}


def _openblas_function(name: str) -> Any:
    """A function of the OpenBLAS that NumPy has loaded, or None."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            paths = {line.split(maxsplit=5)[-1].strip() for line in maps if "openblas" in line}
    except OSError:
        return None
    for path in sorted(paths, key=lambda p: "numpy.libs" not in p):
        library = ctypes.CDLL(path)  # loaded already: this only finds it
        for prefix, suffix in (("scipy_", "64_"), ("", "64_"), ("scipy_", ""), ("", "")):
            found = getattr(library, f"{prefix}openblas_{name}{suffix}", None)
            if found is not None:
                return found
    return None


# -- making it what it was ----------------------------------------------------------------------------------------------


def variables(recorded: Facts, environment: Mapping[str, str], here: Facts) -> dict[str, str]:
    """What C code should find in its environment, beside the recorded `environment`, to do here what it did there.

    Args:
        recorded: the recorded facts.
        environment: the recorded environment, whose own settings win.
        here: `cpu` and `cpus` of this machine, before any library is imported.
    """
    wanted: dict[str, str] = {}
    torch, numpy = recorded.get("torch", {}), recorded.get("numpy", {})
    if recorded.get("cpus", here["cpus"]) != here["cpus"] and "OMP_NUM_THREADS" not in environment:
        wanted["OMP_NUM_THREADS"] = str(recorded["cpus"])
    there, flags = set(recorded.get("cpu", {}).get("flags", ())), set(here["cpu"]["flags"])
    if there < flags:  # a machine that can do more is held to what the recording one could
        wanted.update(_CAPABILITY_VARIABLES.get(torch.get("capability", ""), {}))
        if "active" in numpy and (surplus := set(numpy["dispatch"]) - set(numpy["active"])):
            wanted["NPY_DISABLE_CPU_FEATURES"] = " ".join(sorted(surplus))
        if "blas" in numpy:
            wanted["OPENBLAS_CORETYPE"] = numpy["blas"].rpartition(" ")[2]
    elif not there <= flags and environment.get("ATEN_CPU_CAPABILITY", "").startswith("avx") and "avx2" not in flags:
        wanted["ATEN_CPU_CAPABILITY"] = "default"  # torch takes its word for it, and would die of an illegal instruction
        return wanted
    return {name: value for name, value in wanted.items() if name not in environment}


def set_for_c(wanted: Mapping[str, str]) -> None:
    """Set environment variables that C code sees, and what is started later, but `os.environ` does not."""
    libc = ctypes.CDLL(None, use_errno=True)
    for name, value in wanted.items():
        libc.setenv(os.fsencode(name), os.fsencode(value), 1)


def set_torch_threads(recorded: Facts, environment: Mapping[str, str], here: Facts) -> None:
    """Right after torch's import: the recorded thread counts, where this machine's number of processors gives others."""
    facts = recorded.get("torch", {})
    if not facts or recorded["cpus"] == here["cpus"]:
        return
    torch = sys.modules["torch"]
    if not {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & environment.keys() and torch.get_num_threads() != facts["threads"]:
        torch.set_num_threads(facts["threads"])
    if torch.get_num_interop_threads() != facts["interop"]:
        torch.set_num_interop_threads(facts["interop"])


def set_numpy_threads(recorded: Facts, environment: Mapping[str, str], here: Facts) -> None:
    """Right after NumPy's import: OpenBLAS takes no more threads from its environment than there are processors."""
    wanted = recorded.get("numpy", {}).get("blas_threads")
    if wanted is None or recorded["cpus"] == here["cpus"] or {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"} & environment.keys():
        return
    put = _openblas_function("set_num_threads")
    if put is not None and _openblas()["blas_threads"] != wanted:
        put(int(wanted))


# -- what is left -------------------------------------------------------------------------------------------------------


def mismatches(recorded: Facts, now: Facts) -> list[str]:
    """What could not be made the same, each as a clause: why bits may differ. Only libraries present in both are compared."""
    found: list[str] = []

    def differ(what: str, there: Any, here: Any) -> None:
        if there != here:
            found.append(f"recorded with {what} {there or 'none'} and here it is {here or 'none'}")

    differ("Python", recorded.get("python"), now["python"])
    for library in sorted(recorded.get("versions", {}).keys() & now["versions"].keys()):
        differ(library, recorded["versions"][library], now["versions"][library])
    differ("a processor by", recorded.get("cpu", {}).get("vendor"), now["cpu"]["vendor"])
    for library, names in _COMPARED.items():
        there, here = recorded.get(library, {}), now.get(library, {})
        for name, what in names.items():
            if name in there and name in here:
                differ(what, _shown(there[name]), _shown(here[name]))
    return found


_COMPARED = {
    "torch": {
        "capability": "torch's instruction set", "interop": "torch's number of inter-op threads", "mkl": "torch's MKL",
        "mkldnn": "torch's oneDNN", "cuda": "CUDA", "cudnn": "cuDNN", "devices": "GPUs",
    },
    "numpy": {
        "active": "NumPy's instruction sets", "blas": "NumPy's linear algebra", "blas_threads": "NumPy's number of threads",
    },
}  # fmt: skip


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
