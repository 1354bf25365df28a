"""An SDK client whose platform is a function from request to JSON: nothing listens anywhere."""

import json

import httpx
from nemo_microservices import NeMoMicroservices


class Scripted:
    """Answers by (method, path); a value may be bytes, JSON, or (status, JSON)."""

    def __init__(self, answers):
        self.answers = answers
        self.requests = []
        self.headers = []

    def __call__(self, request):
        body = json.loads(request.content) if request.content else None
        self.requests.append((request.method, request.url.path, body))
        self.headers.append(request.headers)
        answer = self.answers.get((request.method, request.url.path))
        if answer is None:
            return httpx.Response(404, json={"detail": "not found"})
        if callable(answer):
            answer = answer(body)
        if isinstance(answer, dict) and request.url.params.get("page", "1") != "1":
            answer = answer | {"data": []}  # the SDK asks for pages until one is empty
        if isinstance(answer, bytes):
            return httpx.Response(200, content=answer)
        status, value = answer if isinstance(answer, tuple) else (200, answer)
        return httpx.Response(status, json=value)

    def client(self):
        return NeMoMicroservices(
            base_url="http://scripted",
            inference_base_url="http://scripted",
            http_client=httpx.Client(transport=httpx.MockTransport(self)),
            max_retries=0,
        )


def page(rows):
    """The first and only page of a list with these rows."""
    return {
        "object": "list",
        "data": rows,
        "pagination": {
            "page": 1,
            "page_size": 10,
            "current_page_size": len(rows),
            "total_pages": 1,
            "total_results": len(rows),
        },
    }
