"""A model is deployed once, in whatever words the service says that it is."""

import pytest

from tests.utils.scripted_platform import Scripted
from utils import deployment
from utils.errors import Refused

PATH = "/v1/deployment/model-deployments"


@pytest.mark.parametrize(
    "taken",
    [
        (409, {"detail": "model deployment already exists: meta/m"}),
        (500, {"detail": "model deployment already exists"}),  # as the service itself does
    ],
)
def test_a_deployment_that_is_there_is_returned(taken):
    there = {"namespace": "meta", "name": "m", "config": "c", "deployed": False}
    scripted = Scripted({("POST", PATH): taken, ("GET", f"{PATH}/meta/m"): there})
    found = deployment.ensure_deployed(scripted.client(), "meta/m", image="nim:1")
    assert found.name == "m"


def test_another_failure_is_not_taken_for_one():
    scripted = Scripted({("POST", PATH): (500, {"detail": "no room"})})
    with pytest.raises(Refused, match="was answered 500: no room"):
        deployment.ensure_deployed(scripted.client(), "meta/m", image="nim:1")
