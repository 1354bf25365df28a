"""Hands results from one notebook to the next: names, job ids and scores in `data/run.json`."""

from pathlib import Path
from typing import Any

from utils import jsonl
from utils.errors import OutOfOrder


class RunState:
    """The results so far, kept in one JSON file that is always whole.

    state = RunState("data/run.json")
    state.save(custom_model="ns/name@v1", seconds={"train": 74.2})
    state.save(seconds={"total": 201.5})   # added: several notebooks write `seconds` and `models`
    state.require("custom_model", notebook="2_finetuning_and_inference.ipynb") -> "ns/name@v1"
    """

    SHARED = ("seconds", "models")

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def load(self) -> dict[str, Any]:
        """Everything saved so far; empty before the first notebook."""
        return jsonl.read_json(self.path)

    def save(self, **values: Any) -> None:
        """Replace values; what several notebooks share (SHARED) is added to what is there."""
        run = self.load()
        shared = {key: run.get(key, {}) | values[key] for key in self.SHARED if key in values}
        jsonl.write_json(self.path, run | values | shared)

    def require(self, key: str, *, notebook: str) -> Any:
        """The saved value of `key`, which `notebook` leaves behind.

        Raises:
            OutOfOrder: it is not there; the message names the notebook to run first.
        """
        value = self.load().get(key)
        if value is None:
            raise OutOfOrder(
                f"{self.path} has no {key!r} yet. Run {notebook} from top to bottom first, "
                "then this notebook again."
            )
        return value

    def require_settings(self, **settings: str) -> None:
        """Check that notebook 1 prepared this run with the same settings.

            state.require_settings(NAMESPACE="ns", BASE_MODEL="meta/llama-3.2-1b-instruct")

        Raises:
            OutOfOrder: a setting had another value; names both, and what to do.
        """
        run = self.load().get("run", {})
        for name, value in settings.items():
            saved = run.get(name.lower(), value)
            if saved != value:
                raise OutOfOrder(
                    f"{self.path} belongs to a run with {name}={saved}, not {value}. Set {name} to "
                    f"{saved}, or run 1_data_preparation.ipynb again, and those after it. Runs "
                    "side by side need a NAMESPACE and a DATA_DIR each."
                )

    def clear(self) -> None:
        """Forget everything, as notebook 1 does when it starts anew."""
        self.path.unlink(missing_ok=True)
