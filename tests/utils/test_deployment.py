"""A model is deployed once, in whatever words the service says that it is."""

import pytest

from tests.utils.scripted_platform import Scripted
from utils import deployment
from utils.errors import JobFailed, Refused, TimedOut

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


def waiting_for(status, **more):
    """What comes of the wait for a deployment in this state."""
    there = {"name": "m", "config": "c", "status_details": {"status": status, **more}}
    client = Scripted({("GET", f"{PATH}/meta/m"): there}).client()
    return deployment.wait_until_deployed(client, "meta/m", timeout_s=0)


def test_a_deployment_that_has_failed_is_told_at_once_and_with_its_reason():
    """A typing error in BASE_MODEL was waited for in silence for half an hour."""
    with pytest.raises(JobFailed, match="deployment of meta/m has failed: no such model. Correct"):
        waiting_for("failed", description="no such model")


def test_a_deployment_is_waited_for_until_it_is_ready():
    assert waiting_for("ready").name == "m"
    with pytest.raises(TimedOut, match="waiting for the deployment of meta/m after"):
        waiting_for("pending")
