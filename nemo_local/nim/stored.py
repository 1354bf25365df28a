"""Whole models that are kept in the Data Store, such as a fine-tuning of all weights."""

from dataclasses import dataclass
from pathlib import Path

from nemo_local.catalog import CatalogModel, context_length, count_parameters


@dataclass(frozen=True)
class WantedCheckpoint:
    """A whole model of the Data Store that a deployment names."""

    model_id: str
    entity_id: str
    files_url: str
    stand_in: bool
    """Whether it was made from a stand-in."""

    @property
    def key(self) -> tuple[str, str]:
        """Changes when the same name comes to mean other weights."""
        return (self.entity_id, self.files_url)

    def entry(self, folder: Path) -> CatalogModel:
        """It as a model to load, once its files are in `folder`."""
        return CatalogModel(
            id=self.model_id,
            path=folder,
            answered_by=self.model_id,
            stand_in=self.stand_in,
            max_model_len=context_length(folder),
            num_parameters=count_parameters(folder),
            role="chat",
            why=f"weights of {self.files_url}",
        )
