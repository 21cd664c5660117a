"""Options and where each value comes from: command line, environment, configuration file, or the default, in this order.

Plain classes, for `dataclasses` takes longer to import than all that `record` does before the script starts.
"""

from __future__ import annotations

import os

from flor_trace.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

DEFAULT = "default"
COMMAND_LINE = "command line"


class Setting:
    """One configurable value: how its text is parsed and what it is when nobody gives it."""

    def __init__(self, parse: Callable[[Any], Any], default: Any) -> None:
        self.parse = parse
        self.default = default


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text")
    return value


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if not isinstance(value, str) or value.lower() not in words:
        raise ValueError("yes or no")
    return words[value.lower()]


def _share(value: Any) -> float:
    try:
        share = float(value)
    except (TypeError, ValueError):
        share = -1.0
    if not 0.0 < share <= 1.0:
        raise ValueError("a share of the run's time such as 0.01")
    return share


def _count_or_auto(value: Any) -> int | None:
    if value == "auto":
        return None
    try:
        count = int(value)
    except (TypeError, ValueError):
        count = 0
    if count < 1 or isinstance(value, bool):
        raise ValueError("a whole number from 1 on, or auto")
    return count


def _count(value: Any) -> int:
    try:
        count = -1 if isinstance(value, bool) else int(value)
    except (TypeError, ValueError):
        count = -1
    if count < 0:
        raise ValueError("a whole number from 0 on")
    return count


_DURATIONS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SIZES = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30, "TI": 1 << 40}


def _duration(value: Any) -> float:
    """Seconds."""
    text = str(value).strip().lower()
    return _measure(text[:-1], _DURATIONS.get(text[-1:]), "a time such as 30d, 12h or 45m")


def _size(value: Any) -> int:
    """Bytes; GB is 1000 MB, GiB 1024 MiB."""
    text = str(value).strip().upper().removesuffix("B")
    number = text.rstrip("KMGTI ")
    return int(_measure(number, _SIZES.get(text[len(number) :].strip()), "a size such as 10GB, 500MB or 2GiB"))


def _measure(number: str, unit: int | None, example: str) -> float:
    try:
        amount = float(number)
    except ValueError:
        amount = -1.0
    # Written so that nan is refused.
    if unit is None or not 0.0 <= amount < float("inf"):
        raise ValueError(example)
    return amount * unit


def _list(value: Any) -> tuple[str, ...]:
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise ValueError("names separated by commas")
    return tuple(word.strip() for word in words if word.strip())


def _pairs(value: Any) -> dict[str, str]:
    if isinstance(value, dict):
        return {str(key): str(word) for key, word in value.items()}
    words = value.split(",") if isinstance(value, str) else value
    pairs: dict[str, str] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.strip():
            raise ValueError("K=V")
        pairs[key.strip()] = text.strip()
    return pairs


def _choice(*words: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in words:
            raise ValueError(" or ".join(words))
        return str(value)

    return parse


def _iterations(value: Any) -> tuple[int | None, int | None] | None:
    first, colon, last = str(value).partition(":")
    try:
        start = int(first) if first.strip() else None
        stop = (int(last) if last.strip() else None) if colon else (start + 1 if start is not None else None)
    except ValueError:
        raise ValueError("A:B with whole numbers") from None
    if (start is None and not colon) or min(start or 0, stop or 0) < 0 or (stop is not None and stop <= (start or 0)):
        raise ValueError("A:B with 0 <= A < B")
    return start, stop


SETTINGS: dict[str, Setting] = {
    "store": Setting(_text, ".flor"),
    "name": Setting(_text, None),
    "tag": Setting(_pairs, {}),
    "overhead": Setting(_share, 0.01),
    "every": Setting(_count_or_auto, None),
    "max_disk": Setting(_size, None),
    "replay_latency": Setting(_duration, None),
    "instrument": Setting(_list, ()),
    "quiet": Setting(_flag, False),
    "run": Setting(_text, None),
    "workers": Setting(_count_or_auto, None),
    "iterations": Setting(_iterations, None),
    "where": Setting(_text, None),
    "resume": Setting(_flag, False),
    "show": Setting(_choice("new", "all"), "new"),
    "init": Setting(_choice("jump", "weak", "strong"), "jump"),
    "dry_run": Setting(_flag, False),
    "json": Setting(_flag, False),
    "accept_changes": Setting(_flag, False),
    "allow_writes": Setting(_list, ()),
    "isolate": Setting(_flag, False),
    "keep": Setting(_count, None),
    "older_than": Setting(_duration, None),
    "max_size": Setting(_size, None),
}
# What makes sense for one command line only is read from nowhere else.
_COMMAND_LINE_ONLY = {"run", "iterations", "where", "resume", "dry_run", "json", "accept_changes"}


class Options:
    """Resolved values.

    Attributes:
        origin: where each value came from: "command line", an environment variable's name, a file's name, or "default".
    """

    _names: tuple[str, ...] = ("store",)

    store: str
    origin: dict[str, str]

    def __init__(self, given: Mapping[str, Any] | None = None, *, cwd: str | None = None, environ: Mapping[str, str] | None = None) -> None:
        folder = os.getcwd() if cwd is None else cwd
        variables: Mapping[str, str] = os.environ if environ is None else environ
        layers = [({key: value for key, value in (given or {}).items() if value is not None}, COMMAND_LINE)]
        layers.append(_from_environment(variables))
        layers += _from_files(folder)
        self.origin = {}
        for name in self._names:
            setting = SETTINGS[name]
            value, origin = setting.default, DEFAULT
            for layer, source in layers:
                if name in layer and (source == COMMAND_LINE or name not in _COMMAND_LINE_ONLY):
                    value, origin = _parse(name, layer[name], source), _origin(name, source)
                    break
            setattr(self, name, value)
            self.origin[name] = origin
        # The script may change the working directory.
        self.store = os.path.join(folder, self.store)

    def as_dict(self) -> dict[str, Any]:
        """The values by name."""
        return {name: getattr(self, name) for name in self._names}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._names)})"


class RecordOptions(Options):
    """What `record` can be told. `every` is None for auto."""

    _names = ("store", "name", "tag", "overhead", "every", "max_disk", "replay_latency", "instrument", "quiet")

    name: str | None
    tag: dict[str, str]
    overhead: float
    every: int | None
    max_disk: int | None
    replay_latency: float | None
    instrument: tuple[str, ...]
    quiet: bool


class CleanupOptions(Options):
    """What `gc` can be told: how many runs to keep at least, which age in seconds makes the others go, and how many bytes may stay."""

    _names = ("store", "keep", "older_than", "max_size", "dry_run")

    keep: int | None
    older_than: float | None
    max_size: int | None
    dry_run: bool


class ReplayOptions(Options):
    """What `replay` can be told. `run` is None for the last run (of `file`, if given), `workers` None for auto; `iterations` is
    half-open, either end may be None."""

    _names = (
        "store", "run", "workers", "iterations", "where", "resume", "show", "init", "dry_run", "json", "accept_changes", "allow_writes",
        "isolate",
    )  # fmt: skip

    run: str | None
    workers: int | None
    iterations: tuple[int | None, int | None] | None
    where: str | None
    resume: bool
    show: str
    init: str
    dry_run: bool
    json: bool
    accept_changes: bool
    allow_writes: tuple[str, ...]
    isolate: bool
    file: str | None

    def __init__(self, given: Mapping[str, Any] | None = None, *, cwd: str | None = None, environ: Mapping[str, str] | None = None) -> None:
        super().__init__(given, cwd=cwd, environ=environ)
        self.file = (given or {}).get("file")


def _parse(name: str, value: Any, source: str) -> Any:
    try:
        return SETTINGS[name].parse(value)
    except ValueError as error:
        place = f"--{name.replace('_', '-')}" if source == COMMAND_LINE else f"{name} in {_origin(name, source)}"
        raise UsageError(f"{place} must be {error}, not {value!r}") from None


def _origin(name: str, source: str) -> str:
    return variable(name) if source == "environment" else source


def automatic(name: str) -> bool:
    """Whether a setting without a value is chosen by flor_trace itself (`auto`)."""
    return SETTINGS[name].parse is _count_or_auto


def configurable(name: str) -> bool:
    """Whether a setting is read from files and the environment, too."""
    return name not in _COMMAND_LINE_ONLY


def variable(name: str) -> str:
    """The environment variable that sets a setting."""
    return f"FLOR_TRACE_{name.upper()}"


def _from_environment(environ: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    found = {name: environ.get(variable(name), "") for name in SETTINGS}
    return {name: value for name, value in found.items() if value}, "environment"


def _from_files(folder: str) -> list[tuple[dict[str, Any], str]]:
    layers: list[tuple[dict[str, Any], str]] = []
    for name, read in (("pyproject.toml", _read_toml), ("setup.cfg", _read_cfg)):
        try:
            with open(os.path.join(folder, name), "rb") as file:
                data = file.read()
        except OSError:
            continue  # no such file here, or not ours to read
        if b"flor_trace" not in data:
            continue  # the parsers take longer to import than everything else here
        values = {key.replace("-", "_"): value for key, value in read(data, name).items()}
        unknown = sorted(set(values) - (set(SETTINGS) - _COMMAND_LINE_ONLY))
        if unknown:
            raise UsageError(f"{name} sets {', '.join(unknown)} for flor_trace, which knows no such setting")
        layers.append((values, name))
    return layers


def _read_toml(data: bytes, name: str) -> dict[str, Any]:
    import tomllib

    try:
        table = tomllib.loads(data.decode()).get("tool", {}).get("flor_trace", {})
    except ValueError as error:
        raise UsageError(f"{name} cannot be read: {error}") from error
    return dict(table)


def _read_cfg(data: bytes, name: str) -> dict[str, Any]:
    import configparser

    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(data.decode())
    except (configparser.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{name} cannot be read: {error}") from error
    return dict(parser["flor_trace"]) if parser.has_section("flor_trace") else {}
