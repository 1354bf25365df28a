"""A Data Store without a server around it."""

import pytest

from nemo_local.data_store.service import DataStoreService


@pytest.fixture
def service(documents, settings):
    return DataStoreService(documents, settings.home / "blobs")
