"""Statuses and dead connections become errors of one tree, whichever client was used."""

import json
import socket
import threading
import traceback
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import nemo_microservices
import openai
import pytest
from huggingface_hub import HfApi

from utils import (
    clients,
    customizer,
    data_store,
    deployment,
    entity_store,
    evaluator,
    guardrails,
    inference,
)
from utils.errors import Conflict, NotFound, Refused, TimedOut, Unavailable, Unreachable
from utils.http import post_form, probe, translated


class Echo(BaseHTTPRequestHandler):
    """Answers /status/N with that status, and everything else with what it was sent."""

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        sent = self.rfile.read(length).decode()
        parts = self.path.strip("/").split("/")
        status = next((int(part) for part in parts if part.isdigit()), 200)
        body = json.dumps(
            {"detail": "ns/x not found"}
            if status >= 400
            else {
                "method": self.command,
                "path": self.path,
                "sent": sent,
                "authorization": self.headers.get("Authorization"),
            }
        )
        if self.path.startswith("/page"):
            body = "<html>" + "a page of a gateway " * 500 * (status >= 400)
        if self.path.startswith("/store/"):
            body = json.dumps({"object": "list", "data": [], "pagination": {"page": 1}})
        if self.path.startswith("/empty"):
            body = ""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-should-retry", "false")
        self.end_headers()
        self.wfile.write(body.encode())

    do_GET = do_POST = answer

    def log_message(self, format, *args):
        """Tests read the answers, not a log."""


@pytest.fixture(scope="module")
def url():
    with HTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def dead_url():
    """A URL whose port was free a moment ago."""
    with HTTPServer(("127.0.0.1", 0), Echo) as server:
        port = server.server_port
    return f"http://127.0.0.1:{port}"


def test_a_form_is_posted_with_the_token_if_there_is_one(url):
    sent = post_form(f"{url}/", "/v1/x", {"a": "1"}, setting="NDS_URL", token="secret")
    assert (sent["method"], sent["path"], sent["sent"]) == ("POST", "/v1/x", "a=1")
    assert sent["authorization"] == "Bearer secret"
    assert post_form(url, "/x", {}, setting="NDS_URL")["authorization"] is None
    assert post_form(url, "/empty", {}, setting="NDS_URL") is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((404, NotFound), (409, Conflict), (422, Refused), (501, Refused)),
        *((status, Unavailable) for status in (408, 425, 429, 500, 502, 503, 504)),
    ],
)
def test_a_status_becomes_its_error_with_request_and_reason(url, status, kind):
    with pytest.raises(kind, match=rf"GET .*/status/{status} .* {status}: ns/x not found") as error:
        probe(url, f"/status/{status}", setting="NEMO_URL")
    assert type(error.value) is kind
    assert error.value.status == status
    assert ("NEMO_URL" in str(error.value)) == (kind is Unavailable)


def test_a_page_instead_of_json_asks_whether_the_url_is_right(url):
    with pytest.raises(Unreachable, match="than JSON \\('<html>'\\): is NDS_URL the right URL"):
        post_form(url, "/page", {}, setting="NDS_URL")
    with pytest.raises(Unreachable, match="is NIM_URL the right URL.* A page to sign in"):
        clients.require_answers({"NIM": ("NIM_URL", f"{url}/page")})
    with pytest.raises(Unreachable, match="is DEPLOYMENT_URL the right URL"):
        clients.require_answers({"Deployment": ("DEPLOYMENT_URL", f"{url}/page")})
    with pytest.raises(Unreachable, match="is HF_ENDPOINT the right URL"):
        data_store.load_rows(f"{url}/page", "ns/d")


@pytest.mark.parametrize(
    ("setting", "verb"),
    [
        ("ENTITY_STORE_URL", lambda url: entity_store.ensure_namespace(clients.nemo(url), "ns")),
        ("ENTITY_STORE_URL", lambda url: entity_store.find_model(clients.nemo(url), "ns/m@v1")),
        ("CUSTOMIZER_URL", lambda url: customizer.logs(clients.nemo(url), "cust-1")),
        (
            "CUSTOMIZER_URL",
            lambda url: customizer.wait_for_training(clients.nemo(url), "cust-1", timeout_s=0),
        ),
        (
            "EVALUATOR_URL",
            lambda url: evaluator.wait_for_evaluation(clients.nemo(url), "eval-1", timeout_s=0),
        ),
        (
            "DEPLOYMENT_URL",
            lambda url: deployment.wait_until_deployed(clients.nemo(url), "ns/m", timeout_s=0),
        ),
        ("NIM_URL", lambda url: inference.served_models(clients.openai(url))),
        ("NIM_URL", lambda url: inference.ask(clients.openai(url), "ns/m", [])),
    ],
)
def test_a_page_to_sign_in_in_the_middle_of_a_run_is_told_by_every_verb(url, setting, verb):
    """The SDKs hand a page over as it is, and its lack of attributes was the error."""
    with pytest.raises((Unreachable, TimedOut), match=f"than JSON .'<html>'.: is {setting} the"):
        verb(f"{url}/page")


def test_nothing_there_says_how_to_start_it_and_which_setting_to_change(dead_url):
    with pytest.raises(Unreachable, match=f"{dead_url}: start .*make up.*set NIM_URL"):
        probe(dead_url, "/v1/models", setting="NIM_URL")


@pytest.mark.timeout(30)
def test_a_service_that_never_answers_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unreachable, match=f"{url} did not answer in time. It may be busy"):
            probe(url, "/v1/models", setting="NIM_URL", timeout_s=0.2)
        slow = clients.nemo(url).with_options(timeout=0.2, max_retries=0)
        with pytest.raises(Unreachable, match="did not answer in time"):
            entity_store.find_model(slow, "ns/m@v1")
        question = clients.openai(url).with_options(timeout=0.2, max_retries=0)
        with pytest.raises(Unreachable, match="did not answer in time.* set NIM_URL"):
            inference.ask(question, "ns/m", [])


def test_a_connection_that_fails_says_what_was_seen(url, dead_url):
    """A certificate that nobody here has signed was told as a platform that is down."""
    with pytest.raises(Unreachable, match="What was seen: .*refused"):
        probe(dead_url, "/v1/models", setting="NIM_URL")
    with pytest.raises(Unreachable, match="What was seen: .*SSL"):
        probe(url.replace("http:", "https:"), "/v1/models", setting="NIM_URL")


@pytest.mark.parametrize(
    "ask",
    [
        lambda url: probe(url, "/x", setting="NEMO_URL", token="s3cret\n"),
        lambda url: entity_store.find_model(clients.nemo(url, "s3cret\n"), "ns/m@v1"),
        lambda url: data_store.list_files(data_store.hub(url, "s3cret\n"), "ns/d"),
    ],
    ids=["requests", "SDK", "Hub"],
)
def test_a_token_that_cannot_be_sent_is_not_shown(url, ask):
    with pytest.raises(Unreachable, match=r"header value \(not shown\)") as error:
        ask(url)
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_service_that_wants_another_token_names_the_setting(url, status):
    there = f"{url}/status/{status}"
    with pytest.raises(Refused, match=f"set NIM_TOKEN to a token that {there} takes") as error:
        clients.require_answers({"NIM": ("NIM_URL", there)}, "right", "wrong")
    assert error.value.status == status
    with pytest.raises(Refused, match=f"set NEMO_TOKEN to a token that {there} takes"):
        clients.require_answers({"Entity Store": ("NEMO_URL", there)}, "wrong")


def test_a_service_that_fails_names_its_own_setting(url):
    clients.require_answers({"NIM": ("NIM_URL", url)})
    with pytest.raises(Unreachable, match="status/500.* was answered 500: .*; is NIM_URL the URL"):
        clients.require_answers({"NIM": ("NIM_URL", f"{url}/status/500")})


def test_a_gateway_given_as_nim_is_told_at_once_and_not_waited_for(url):
    with pytest.raises(Unreachable, match="is the Entity Store: set NIM_URL to the URL of NIM"):
        clients.require_answers({"NIM": ("NIM_URL", f"{url}/store")})
    clients.require_answers({"Entity Store": ("NEMO_URL", f"{url}/store")})


def sdk(url):
    client = nemo_microservices.NeMoMicroservices(base_url=url, max_retries=0)
    return lambda path: client.get(path, cast_to=httpx.Response)


def openai_client(url):
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    return lambda path: client.get(path, cast_to=httpx.Response)


def hub(url):
    return lambda path: HfApi(endpoint=url + path, token=False).repo_info("ns/x")


CLIENTS = pytest.mark.parametrize("make", [sdk, openai_client, hub])


@CLIENTS
@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (409, Conflict), (422, Refused)])
def test_errors_of_the_vendors_clients_become_ours(url, make, status, kind):
    with pytest.raises(kind) as error, translated(url, setting="NDS_URL"):
        make(url)(f"/status/{status}")
    assert error.value.status == status
    assert str(status) in str(error.value)


@CLIENTS
def test_of_a_long_page_of_an_error_the_beginning_is_shown(url, make):
    with pytest.raises(Refused) as error, translated(url, setting="NDS_URL"):
        make(url)("/page/403")
    assert len(str(error.value)) < 500


@CLIENTS
def test_a_gateway_whose_service_is_away_names_the_setting(url, make):
    with pytest.raises(Unavailable, match=r"\(the service at NDS_URL .* try again, read") as error:
        with translated(url, setting="NDS_URL"):
            make(url)("/status/503")
    assert error.value.status == 503


@pytest.mark.parametrize("make", [sdk, openai_client])
def test_an_answer_without_a_body_says_its_status_in_words_and_once(url, make):
    with pytest.raises(Unavailable, match="answered 503: Service Unavailable") as error:
        with translated(url, setting="NDS_URL"):
            make(url)("/empty/503")
    assert "Error code" not in str(error.value)


@CLIENTS
def test_a_dead_platform_looks_the_same_through_every_client(dead_url, make):
    with pytest.raises(Unreachable, match="set NDS_URL"), translated(dead_url, setting="NDS_URL"):
        make(dead_url)("/x")


@pytest.mark.parametrize(
    ("setting", "verb"),
    [
        ("ENTITY_STORE_URL", lambda client: entity_store.ensure_namespace(client, "ns")),
        ("ENTITY_STORE_URL", lambda client: entity_store.ensure_dataset(client, "ns", "d", "x")),
        ("ENTITY_STORE_URL", lambda client: entity_store.find_model(client, "ns/m@v1")),
        (
            "DEPLOYMENT_URL",
            lambda client: deployment.ensure_deployed(client, "ns/m", image="nim:1"),
        ),
        (
            "CUSTOMIZER_URL",
            lambda client: customizer.ensure_training(
                client,
                client,
                config="ns/c@v1",
                dataset="ns/d",
                dataset_contents="4c1f",
                output_name="m",
                base_answered_by="ns/b",
                hyperparameters={},
                namespace="ns",
            ),
        ),
        (
            "EVALUATOR_URL",
            lambda client: evaluator.start_evaluation(
                client,
                config={"type": "custom"},
                model="ns/m",
                namespace="ns",
                dataset_contents="4c1f",
            ),
        ),
        ("EVALUATOR_URL", lambda client: evaluator.scores(client, "eval-1")),
        ("EVALUATOR_URL", lambda client: evaluator.row_results(client, "eval-1")),
        (
            "GUARDRAILS_URL",
            lambda client: guardrails.ensure_guardrail_config(client, "ns", "g", {}),
        ),
        (
            "GUARDRAILS_URL",
            lambda client: guardrails.check(client, config_id="ns/g", model="ns/m", text="hi"),
        ),
    ],
)
def test_a_platform_that_is_gone_between_two_cells_is_named_by_every_verb(dead_url, setting, verb):
    client = clients.nemo(dead_url).with_options(max_retries=0)
    with pytest.raises(Unreachable, match=f"{dead_url}: start .* set {setting}"):
        verb(client)


def test_a_nim_that_is_gone_or_lacks_the_model_is_told_by_a_question(dead_url, url):
    question = [{"role": "user", "content": "hi"}]
    gone = clients.openai(dead_url).with_options(max_retries=0)
    with pytest.raises(Unreachable, match=f"{dead_url}: start .* set NIM_URL"):
        inference.ask(gone, "ns/m", question)
    with pytest.raises(Unreachable, match=f"{dead_url}: start .* set NIM_URL"):
        inference.served_models(gone)
    lacking = clients.openai(f"{url}/status/404")
    with pytest.raises(NotFound, match="chat/completions was answered 404: ns/x not found"):
        inference.ask(lacking, "ns/m", question)


def test_the_traceback_is_ours_and_not_the_way_through_the_clients(dead_url):
    client = clients.nemo(dead_url).with_options(max_retries=0)
    with pytest.raises(Unreachable) as error:
        entity_store.find_model(client, "ns/m@v1")
    assert len("".join(traceback.format_exception(error.value)).splitlines()) < 20


def test_an_error_of_our_own_or_of_nobody_passes_through(url):
    with pytest.raises(KeyError), translated(url, setting="NDS_URL"):
        raise KeyError("x")
    with pytest.raises(NotFound, match="as it was"), translated(url, setting="NDS_URL"):
        raise NotFound("as it was", 404)
