"""Plain HTTP requests, and the translation of every SDK's errors into ours."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import requests

from utils.errors import Conflict, NemoError, NotFound, Refused, Unreachable

CONNECT_TIMEOUT_S = 5.0

P = ParamSpec("P")
R = TypeVar("R")


class Client(Protocol):
    """What the clients of the SDKs have in common."""

    @property
    def base_url(self) -> object: ...


C = TypeVar("C", bound=Client)


def probe(
    base_url: str, path: str, *, setting: str, token: str | None = None, timeout_s: float = 30.0
) -> Any:
    """What the service answers to GET with success; None where that is not JSON."""
    try:
        return _send("GET", base_url, path, setting, token, timeout_s).json()
    except ValueError:
        return None


def post_form(
    base_url: str, path: str, form: Mapping[str, str], *, setting: str, token: str | None = None
) -> Any:
    """The JSON answer to POST of a form.

    `setting` is the name in config.py that an error tells the reader to change.
    """
    response = _send("POST", base_url, path, setting, token, 60.0, form)
    try:
        return response.json() if response.content else None
    except ValueError as error:
        raise Unreachable(
            f"{response.url} answered with something else than JSON "
            f"({response.text[:60]!r}): is {setting} the right URL?"
        ) from error


def _send(
    method: str,
    base_url: str,
    path: str,
    setting: str,
    token: str | None,
    timeout_s: float,
    form: Mapping[str, str] | None = None,
) -> requests.Response:
    base_url = base_url.rstrip("/")
    url = f"{base_url}{path}"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with translated(base_url, setting=setting):
        response = requests.request(
            method, url, data=form, headers=headers, timeout=(CONNECT_TIMEOUT_S, timeout_s)
        )
    if response.status_code >= 400:
        raise refusal(response.status_code, f"{method} {url}", _detail(response))
    return response


def refusal(status: int, request: str, detail: object) -> Refused:
    """The error for a status: NotFound for 404, Conflict for 409, else Refused.

    refusal(404, "GET http://host/v1/x", "x not found")
    -> NotFound("GET http://host/v1/x was answered 404: x not found")
    """
    kind = {404: NotFound, 409: Conflict}.get(status, Refused)
    return kind(f"{request} was answered {status}: {detail}", status)


def unreachable(url: str, setting: str) -> Unreachable:
    """The error for a URL at which nothing answers, with both remedies."""
    return Unreachable(
        f"Platform not reachable at {url}: start the embedded one with `make up`, "
        f"or set {setting} to one that runs."
    )


@contextmanager
def translated(url: str, *, setting: str = "NEMO_URL") -> Iterator[None]:
    """Within this block, errors of requests and of the SDKs become those of `utils.errors`.

    with translated(config.NEMO_URL):
        client.namespaces.retrieve("none")   # raises NotFound instead of the SDK's own class
    """
    try:
        yield
    except NemoError:
        raise
    except Exception as error:
        ours = _translate(error, url, setting)
        if ours is None:
            raise
        raise ours from None  # a reader needs our sentence, not the way through the clients


def translates(
    setting: str = "NEMO_URL",
) -> Callable[[Callable[Concatenate[C, P], R]], Callable[Concatenate[C, P], R]]:
    """A decorator of verbs: errors of the client, their first argument, become ours.

    @translates()
    def ensure_namespace(client: NeMoMicroservices, namespace: str) -> Namespace: ...
    """

    def decorate(verb: Callable[Concatenate[C, P], R]) -> Callable[Concatenate[C, P], R]:
        @wraps(verb)
        def translating(client: C, /, *args: P.args, **kwargs: P.kwargs) -> R:
            url = str(client.base_url).rstrip("/").removesuffix("/v1")
            with translated(url, setting=setting):
                return verb(client, *args, **kwargs)

        return translating

    return decorate


def _translate(error: Exception, url: str, setting: str) -> NemoError | None:
    """Our error for one of the SDKs', or None when it comes from somewhere else."""
    # Imported here: they take a second, and only the unlucky path needs them.
    import httpx  # the SDKs and huggingface_hub speak through it
    import nemo_microservices
    import openai
    from huggingface_hub import errors as hub

    if isinstance(error, nemo_microservices.APIStatusError | openai.APIStatusError):
        request = f"{error.request.method} {error.request.url}"
        return refusal(error.status_code, request, _inner_detail(error.body) or error.message)
    if isinstance(error, hub.HfHubHTTPError) and error.response is not None:
        message = error.server_message or str(error).splitlines()[0]
        return refusal(error.response.status_code, str(error.response.url), message)
    lost = (
        requests.RequestException,
        nemo_microservices.APIConnectionError,
        openai.APIConnectionError,
        httpx.HTTPError,
    )
    return unreachable(url, setting) if isinstance(error, lost) else None


def _detail(response: requests.Response) -> object:
    try:
        body = response.json()
    except ValueError:
        return response.text[:300] or response.reason
    return _inner_detail(body) or body


def _inner_detail(body: object) -> object:
    """The sentence in an error body, whichever service wrote it; None when there is none."""
    if not isinstance(body, dict):
        return body
    return body.get("detail") or body.get("error") or body.get("message")
