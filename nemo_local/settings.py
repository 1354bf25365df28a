"""Every setting of the platform, read from the environment once and frozen."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from nemo_local.core.secrets import usable_key
from nemo_local.core.tool_formats import ToolFormat, formats_by_model

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

Device = Literal[
    "auto",  # a GPU where there is one
    "cpu",
    "cuda",
]
Parallelism = Literal[
    "ddp",  # every process has all weights, and the gradients are averaged
    "fsdp",  # each has a part of the weights, gathered layer by layer
    "zero2",  # DeepSpeed: each has a part of the gradients and of the optimiser's state
    "zero3",  # DeepSpeed: as zero2, and each has a part of the weights
]

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")


class SettingsError(ValueError):
    """A setting has a value we cannot use; the message names the setting."""


@dataclass(frozen=True)
class Settings:
    """The settings of one platform.

    Settings.from_environment(port=18080)
    -> Settings(home=PosixPath('/home/me/project/.nemo_local'), port=18080, ...)
    """

    home: Path
    """NEMO_LOCAL_HOME: the one folder of all state (default `./.nemo_local`)."""
    host: str = "127.0.0.1"
    """NEMO_LOCAL_HOST: address to listen on; anything but loopback requires a token."""
    port: int = 8080
    """NEMO_LOCAL_PORT: port of the control plane."""
    nim_port: int = 8000
    """NEMO_LOCAL_NIM_PORT: port of the inference process."""
    token: str | None = None
    """NEMO_LOCAL_TOKEN: bearer token every service checks; None = no check (loopback only)."""
    database: str | None = None
    """NEMO_LOCAL_DATABASE_URL: an SQLAlchemy URL, files by absolute path; None = in `home`."""
    device: Device = "auto"
    """NEMO_LOCAL_DEVICE: `auto`, `cpu` or `cuda`, for training and inference."""
    models_dir: Path | None = None
    """NEMO_LOCAL_MODELS: folder of real checkpoints, one sub-folder per official model id."""
    threads: int | None = None
    """NEMO_LOCAL_THREADS: CPU threads of training and inference; None = the library's choice."""
    dataset_rows: int = 12000
    """NEMO_LOCAL_DATASET_ROWS: pocket rows published at the first `up`; 0 = publish none."""
    remote_nim_url: str | None = None
    """NEMO_LOCAL_NIM_URL: an inference endpoint elsewhere; None = the one that `up` starts."""
    nim_key: str | None = None
    """NEMO_LOCAL_NIM_KEY: bearer key for that endpoint, which never gets the platform's token."""
    engine_url: str | None = None
    """NEMO_LOCAL_ENGINE_URL: an OpenAI-compatible server that computes; None = this process."""
    engine_key: str | None = None
    """NEMO_LOCAL_ENGINE_KEY: bearer key for that server."""
    engine_models: str | None = None
    """NEMO_LOCAL_ENGINE_MODELS: `id=name,...`: our model ids and that server's names for them."""
    tool_parsers: str | None = None
    """NEMO_LOCAL_TOOL_PARSERS: `model=parser,...` where the chat template does not tell."""
    request_timeout_s: int = 600
    """NEMO_LOCAL_REQUEST_TIMEOUT: seconds a request to inference may take; 0 = no limit."""
    nim_memory_mb: int | None = None
    """NEMO_LOCAL_NIM_MEMORY: MB for weights and caches in inference; None = no limit."""
    spare_training: int = 1
    """NEMO_LOCAL_SPARE_TRAINING: 1 = a training process waits, imported, for a job; 0 = none."""
    hf_endpoint: str | None = None
    """NEMO_LOCAL_HF_ENDPOINT: Hub of `hf://` targets that name none; None = our Data Store."""
    hf_token: str | None = None
    """NEMO_LOCAL_HF_TOKEN: for gated models; goes to that Hub and to huggingface.co only."""
    parallelism: Parallelism = "ddp"
    """NEMO_LOCAL_PARALLELISM: how several training processes share the work."""
    training_processes: int | None = None
    """NEMO_LOCAL_TRAINING_PROCESSES: processes per training run on a CPU; None = one."""
    training_address: str | None = None
    """NEMO_LOCAL_TRAINING_ADDRESS: `host[:port]` of this machine for multi-machine training."""

    mlflow_tracking_uri: str | None = None
    """MLFLOW_TRACKING_URI: where MLflow logs every training, too; None = nowhere."""

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, **overrides: Any
    ) -> Settings:
        """Settings from `NEMO_LOCAL_*` and MLflow's own; an override wins unless None or empty.

        Raises:
            SettingsError: a value has the wrong type, is no possible folder, is a relative path
                of a database or a URL with a password, or `host` is public without a token.
        """
        source = os.environ if environment is None else environment
        if unknown := set(overrides) - {field.name for field in fields(cls)}:
            raise SettingsError(f"unknown setting {sorted(unknown)[0]!r}")
        values: dict[str, Any] = {"home": Path(".nemo_local")}
        for name, variable in _VARIABLES.items():
            if source.get(variable, "").strip():
                values[name] = _parse(name, variable, source[variable])
        if "" in (overrides.get("home"), overrides.get("models_dir")):
            raise SettingsError("--home or --models is empty: name a folder, or leave it out")
        values.update({name: value for name, value in overrides.items() if value not in (None, "")})
        values.update({key: values[key].strip() for key in _KEYS if values.get(key)})
        for name in ("home", "models_dir"):
            if values.get(name) is not None:
                values[name] = _folder(_VARIABLES[name], values[name])
        for name, key in _URL_KEYS.items():
            # Answers and logs show where we ask.
            if re.match(r"[^/?#]*//[^/?#]*@", values.get(name, "")):
                what = f"{_VARIABLES[name]} has a user or password in it"
                raise SettingsError(f"{what}; {_VARIABLES[key]} is for that")
        if re.match(r"sqlite(\+\w+)?:///(?!/|:memory:)", values.get("database", "")):
            raise SettingsError(
                f"{_VARIABLES['database']} must name its file by the whole path, such as "
                f"sqlite:////dir/file.db, not {_shown(values['database'])}: from another folder "
                "that would be another file"
            )
        values["host"] = values.get("host", cls.host).lower()
        if not _is_loopback(values["host"]) and not values.get("token"):
            raise SettingsError(
                f"host {values['host']!r} is reachable from other machines, so a token is needed: "
                "set NEMO_LOCAL_TOKEN, or listen on 127.0.0.1."
            )
        return cls(**values)

    def check(self) -> None:
        """Raise SettingsError for a value that no platform could start with."""
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise SettingsError(
                    f"{_VARIABLES[name]} must be one of {', '.join(choices)}, "
                    f"not {getattr(self, name)!r}"
                )
        for name, (least, most) in _NUMBERS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise SettingsError(
                    f"{_VARIABLES[name]} must be from {least} to {most}, not {value}"
                )
        for name, (pattern, expected) in _FORMS.items():
            text = getattr(self, name)
            if text is not None and not (re.fullmatch(pattern, text) and _is_usable(text)):
                raise SettingsError(f"{_VARIABLES[name]} must be {expected}, not {_shown(text)}")
        for name in _KEYS:
            try:
                usable_key(getattr(self, name))
            except ValueError as error:
                raise SettingsError(f"{_VARIABLES[name]}: {error}") from None
        if self.database is not None:
            _check_database(self.database)
        if self.engine_url is not None:
            self.engine_names()
        self.tool_formats()
        if self.port == self.nim_port and not self.remote_nim_url:
            raise SettingsError(
                f"the control plane and inference cannot both listen on port {self.port}; choose "
                "another one with --nim-port (or NEMO_LOCAL_NIM_PORT)"
            )
        if self.models_dir is not None and not self.models_dir.is_dir():
            raise SettingsError(f"{_VARIABLES['models_dir']}: there is no folder {self.models_dir}")

    def engine_names(self) -> dict[str, str]:
        """The engine server's names for our models: {"meta/x": "llama3.1:8b", ...}.

        Raises:
            SettingsError: no model is named, or a part is not `id=name`.
        """
        names = {}
        for part in filter(None, map(str.strip, (self.engine_models or "").split(","))):
            model_id, _, name = part.partition("=")
            if not model_id or not name:
                raise SettingsError(f"{_VARIABLES['engine_models']}: {part!r} is not id=name")
            names[model_id] = name
        if not names:
            raise SettingsError(
                f"{_VARIABLES['engine_models']} must name at least one model of the server at "
                f"{_VARIABLES['engine_url']}, as id=name: our id and what that server calls it"
            )
        return names

    def tool_formats(self) -> dict[str, ToolFormat]:
        """The chosen format of each model id. Raises SettingsError when there is no such parser."""
        try:
            return formats_by_model(self.tool_parsers)
        except ValueError as error:
            raise SettingsError(f"{_VARIABLES['tool_parsers']}: {error}") from None

    @property
    def platform_url(self) -> str:
        """The URL at which this machine reaches the control plane."""
        return f"http://{self._local_host}:{self.port}"

    @property
    def nim_url(self) -> str:
        """The URL at which the control plane reaches inference."""
        return (self.remote_nim_url or f"http://{self._local_host}:{self.nim_port}").rstrip("/")

    @property
    def nim_token(self) -> str | None:
        """The bearer token for inference: the platform's, or the remote server's key."""
        return self.nim_key if self.remote_nim_url else self.token

    @property
    def database_url(self) -> str | URL:
        # Imported here: other commands start twice as fast without SQLAlchemy.
        from sqlalchemy.engine import URL

        return self.database or URL.create("sqlite", database=str(self.home / "platform.db"))

    @property
    def _local_host(self) -> str:
        here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"[{here}]" if ":" in here else here

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for a child process."""
        values = {name: getattr(self, name) for name in _VARIABLES}
        return {_VARIABLES[name]: str(value) for name, value in values.items() if value is not None}


_VARIABLES = {
    "home": "NEMO_LOCAL_HOME",
    "host": "NEMO_LOCAL_HOST",
    "port": "NEMO_LOCAL_PORT",
    "nim_port": "NEMO_LOCAL_NIM_PORT",
    "token": "NEMO_LOCAL_TOKEN",
    "database": "NEMO_LOCAL_DATABASE_URL",
    "device": "NEMO_LOCAL_DEVICE",
    "models_dir": "NEMO_LOCAL_MODELS",
    "threads": "NEMO_LOCAL_THREADS",
    "dataset_rows": "NEMO_LOCAL_DATASET_ROWS",
    "remote_nim_url": "NEMO_LOCAL_NIM_URL",
    "nim_key": "NEMO_LOCAL_NIM_KEY",
    "engine_url": "NEMO_LOCAL_ENGINE_URL",
    "engine_key": "NEMO_LOCAL_ENGINE_KEY",
    "engine_models": "NEMO_LOCAL_ENGINE_MODELS",
    "tool_parsers": "NEMO_LOCAL_TOOL_PARSERS",
    "request_timeout_s": "NEMO_LOCAL_REQUEST_TIMEOUT",
    "nim_memory_mb": "NEMO_LOCAL_NIM_MEMORY",
    "spare_training": "NEMO_LOCAL_SPARE_TRAINING",
    "hf_endpoint": "NEMO_LOCAL_HF_ENDPOINT",
    "hf_token": "NEMO_LOCAL_HF_TOKEN",
    "parallelism": "NEMO_LOCAL_PARALLELISM",
    "training_processes": "NEMO_LOCAL_TRAINING_PROCESSES",
    "training_address": "NEMO_LOCAL_TRAINING_ADDRESS",
    "mlflow_tracking_uri": "MLFLOW_TRACKING_URI",
}
_KEYS = ("token", "nim_key", "engine_key", "hf_token")
_URL_KEYS = {"remote_nim_url": "nim_key", "engine_url": "engine_key", "hf_endpoint": "hf_token"}
_CHOICES = {"device": get_args(Device), "parallelism": get_args(Parallelism)}
_NUMBERS = {
    "port": (1, 65_535),
    "nim_port": (1, 65_535),
    "threads": (1, 4096),
    "dataset_rows": (0, 50_000),  # more would not be there before `up` gives up
    "request_timeout_s": (0, 31_536_000),  # a year
    "nim_memory_mb": (1, 1_000_000_000),  # a petabyte
    "spare_training": (0, 1),
    "training_processes": (1, 4096),
}
"""The lowest and highest value of each number."""
_URL = r"https?://(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:]+)(:\d{1,5})?(/[^\s?#]*)?"
_FORMS = {
    "remote_nim_url": (
        rf"(?!.*/v1/?$){_URL}",
        "a URL such as http://127.0.0.1:8000, without the /v1 that every client adds",
    ),
    "engine_url": (_URL, "a URL such as http://127.0.0.1:8000"),
    "hf_endpoint": (_URL, "a URL such as https://huggingface.co"),
    "training_address": (r"[\w.-]+(:\d{1,5})?", "host or host:port, such as 10.0.0.1:29500"),
}
"""The pattern of each setting, and a description of it for errors."""


def _parse(name: str, variable: str, text: str) -> str | int:
    if name not in _NUMBERS:
        return text
    try:
        return int(text)
    except ValueError:
        raise SettingsError(f"{variable} must be a whole number, not {text!r}") from None


def _folder(variable: str, value: str | Path) -> Path:
    """The folder's absolute path. Raises SettingsError when no folder can have it."""
    try:
        path = Path(value).expanduser().resolve()
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()  # the system refuses names that are too long, and loops of links
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no such user
        raise SettingsError(f"{variable} cannot be the folder {str(value)!r}: {error}") from None
    return path


def _is_loopback(host: str) -> bool:
    """Whether an address or name can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK_HOSTS


def _is_usable(address: str) -> bool:
    """Whether a request could be sent to a URL, or to `host:port`."""
    # Imported here: a training process reads settings too, and needs no HTTP client.
    from nemo_local.core.client import check_url

    try:
        check_url(address if "://" in address else f"http://{address}")
    except ValueError:
        return False
    return True


def _shown(url: str) -> str:
    """A URL as a message may show it: without user and password."""
    return repr(re.sub(r".*@", "...@", url, flags=re.DOTALL))


def _check_database(url: str) -> None:
    # Imported here: other commands start twice as fast without SQLAlchemy.
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        make_url(url).get_dialect().import_dbapi()
    except ImportError as error:
        raise SettingsError(
            f"{_VARIABLES['database']}={_shown(url)} needs a package that is not installed: {error}"
        ) from None
    except (ArgumentError, ValueError):
        raise SettingsError(
            f"{_VARIABLES['database']} must be an SQLAlchemy URL such as sqlite:////dir/file.db or "
            f"postgresql+psycopg://user:password@host/name, not {_shown(url)}"
        ) from None
