"""Where everything points and how large a run is; the notebooks' only settings.

Each name takes the environment first, then the default below. Secrets come from the environment
only. The defaults reach the embedded platform (`make up`); for a real cluster set NEMO_URL,
NDS_URL and NIM_URL, and if its services have hosts of their own, those one by one.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

# A Data Store has no Xet. The Hub's client reads this when it is imported.
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")


class ConfigError(ValueError):
    """A setting has a value we cannot use; the message names the setting."""


@dataclass(frozen=True)
class Size:
    """The numbers that change between a smoke test, a workshop and the original tutorial."""

    name: str
    """The value of SIZE."""
    train_rows: int
    """Rows to train on."""
    validation_rows: int
    """Rows for the validation loss."""
    evaluation_rows: int
    """Held-out rows to score, on tools that training has seen."""
    unseen_rows: int
    """Held-out rows to score, on tools that training has never seen."""
    epochs: int
    """Passes over the training rows."""
    batch_size: int
    """Rows in one optimiser step."""
    learning_rate: float
    """Peak learning rate of the adapter."""
    adapter_dim: int
    """LoRA rank."""
    adapter_alpha: int
    """LoRA scale: updates are multiplied by adapter_alpha / adapter_dim."""
    adapter_dropout: float
    """Share of adapter inputs dropped in training."""
    guard_prompts: int | None
    """Prompts for the guard's score card, half of them unsafe; None = all."""
    parallelism: int
    """Evaluation requests under way at once."""
    job_timeout_s: int
    """Longest wait for one training or evaluation job (s)."""


SIZES = {
    # Seconds, not scores: shows that every cell runs.
    "smoke": Size("smoke", 48, 12, 12, 8, 1, 8, 4e-3, 8, 8, 0.0, 16, 4, 600),
    # Real learning on the embedded platform's pocket model, in minutes on two cores.
    "workshop": Size("workshop", 3200, 100, 600, 300, 2, 16, 1e-3, 32, 64, 0.0, None, 32, 1800),
    # The original tutorial on a real cluster; it scored 50 rows, which leaves +-13 points.
    "full": Size("full", 3500, 750, 300, 150, 2, 16, 1e-4, 32, 16, 0.1, None, 8, 7200),
}


def _text(key: str, default: str, pattern: str = r".+", expected: str = "some text") -> str:
    value = os.environ.get(key) or default
    if not re.fullmatch(pattern, value):
        raise ConfigError(f"{key}={value!r} is not {expected}; correct it or unset it.")
    return value


def _url(key: str, default: str, *, of_a_service: bool = True) -> str:
    example = "a URL such as http://127.0.0.1:8080"
    if "@" in os.environ.get(key, ""):  # the notebooks print where they point
        raise ConfigError(
            f"{key} has a user or password in it; NEMO_TOKEN, NIM_TOKEN and HF_TOKEN are for that."
        )
    url = _text(key, default, r"https?://[^\s/?#]+(/[^\s?#]*)?", example).rstrip("/")
    try:
        _ = urlsplit(url).port
    except ValueError as error:
        raise ConfigError(f"{key}={url!r} is not {example} ({error}); correct it.") from None
    if of_a_service and re.search(r"/v1(/hf)?$", url):
        raise ConfigError(f"{key}={url!r} ends in what every client adds; leave out the /v1.")
    return url


def is_under(url: str, base: str) -> bool:
    """True when `url` is on the server of `base` and within its path, however they are spelt.

    is_under("http://localhost:8080/v1/hf", "http://127.0.0.1:8080") -> True
    """
    return f"{_plain(url)}/".startswith(f"{_plain(base)}/")


def _plain(url: str) -> str:
    """host:port/path, with one name for the loopback addresses."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127."):
        host = "localhost"
    return f"{host}:{parts.port or {'http': 80, 'https': 443}[parts.scheme]}{parts.path}"


def _secret(key: str) -> str | None:
    value = os.environ.get(key, "").strip()  # a file ends in a line break, a header must not
    if not re.fullmatch(r"[!-~]*", value):  # the clients would refuse it, and show it
        raise ConfigError(f"{key} has white space or non-ASCII characters; copy it again.")
    return value or None


def _seed(value: str) -> int:
    if int(value) > 2**32 - 1:  # more than NumPy takes, and so Customizer
        raise ConfigError(f"SEED='{value}' is not a whole number up to {2**32 - 1}; correct it.")
    return int(value)


def _writable(folder: Path) -> Path:
    there = folder.absolute()
    while not os.path.exists(there):
        there = there.parent
    if not os.path.isdir(there) or not os.access(there, os.W_OK):
        raise ConfigError(
            f"DATA_DIR='{folder}' is not a folder we can write to: see {there}, or choose another."
        )
    return folder


_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_SPELT = "a name of at most 96 letters, digits, '.', '_' and '-', first a letter or digit"
_PATH = rf"{_NAME}/{_NAME}"
# The Hub's client refuses more names than its API does.
_REPO = rf"(?!.*(?:--|\.\.)|.*(?:-|\.|\.git)(?:/|$)){_NAME}"
_REPO_SPELT = f"{_SPELT}, without '--' or '..', last no '-', '.' or '.git'"

# --- where: the three URLs of the original tutorial -------------------------------------------
NEMO_URL = _url("NEMO_URL", "http://127.0.0.1:8080")
NDS_URL = _url("NDS_URL", NEMO_URL)
NIM_URL = _url("NIM_URL", "http://127.0.0.1:8000")

# --- where: one URL for each service, for clusters without a common gateway -------------------
DATA_STORE_URL = _url("DATA_STORE_URL", NDS_URL)
ENTITY_STORE_URL = _url("ENTITY_STORE_URL", NEMO_URL)
CUSTOMIZER_URL = _url("CUSTOMIZER_URL", NEMO_URL)
EVALUATOR_URL = _url("EVALUATOR_URL", NEMO_URL)
GUARDRAILS_URL = _url("GUARDRAILS_URL", NEMO_URL)
DEPLOYMENT_URL = _url("DEPLOYMENT_URL", NEMO_URL)

# --- secrets ----------------------------------------------------------------------------------
HF_TOKEN = _secret("HF_TOKEN")  # for the Hugging Face Hub only; never sent to the Data Store
NEMO_TOKEN = _secret("NEMO_TOKEN")  # bearer token, where the platform asks for one
NIM_TOKEN = _secret("NIM_TOKEN") or NEMO_TOKEN  # where inference has a key of its own
WANDB_API_KEY = _secret("WANDB_API_KEY")

# --- which data -------------------------------------------------------------------------------
# Default: generated rows that the embedded platform publishes on its Data Store. For xLAM's set
# HF_ENDPOINT=https://huggingface.co DATASET=Salesforce/xlam-function-calling-60k HF_TOKEN=...
HF_ENDPOINT = _url("HF_ENDPOINT", f"{DATA_STORE_URL}/v1/hf", of_a_service=False)
DATASET = _text(
    "DATASET",
    "nemo-local/pocket-function-calling",
    rf"{_REPO}/{_NAME}",
    f"owner/name, each {_REPO_SPELT}",
)
if _plain(HF_ENDPOINT) == _plain(DATA_STORE_URL):
    raise ConfigError(
        f"HF_ENDPOINT='{HF_ENDPOINT}' is the Data Store, whose Hub has a path: add /v1/hf."
    )
SEED = _seed(_text("SEED", "42", r"[0-9]{1,20}", "a whole number"))
DATA_DIR = _writable(Path(os.path.expanduser(_text("DATA_DIR", "data"))))

# --- which models, and the names of what we make ----------------------------------------------
NAMESPACE = _text("NAMESPACE", "xlam-tutorial-ns", _REPO, _REPO_SPELT)
DATASET_NAME = _text("DATASET_NAME", "xlam-ft-dataset", _REPO, _REPO_SPELT)
OUTPUT_MODEL_NAME = _text("OUTPUT_MODEL_NAME", "llama-3.2-1b-xlam", _REPO, _REPO_SPELT)
BASE_MODEL = _text("BASE_MODEL", "meta/llama-3.2-1b-instruct", _PATH, "namespace/name")
CUSTOMIZATION_CONFIG = _text(
    "CUSTOMIZATION_CONFIG", f"{BASE_MODEL}@v1.0.0+80GB", r"[^/@]+/[^/@]+@[^/@]+", "ns/name@version"
)
GUARD_MODEL = _text(
    "GUARD_MODEL", "nvidia/llama-3.1-nemoguard-8b-content-safety", _PATH, "namespace/name"
)

# --- how large --------------------------------------------------------------------------------
SIZE = SIZES[_text("SIZE", "workshop", "|".join(SIZES), "one of " + ", ".join(SIZES))]
