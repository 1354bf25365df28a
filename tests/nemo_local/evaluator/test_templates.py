"""Templates: JSON types survive, and nothing leads out of the sandbox."""

from typing import Any

import pytest

from nemo_local.evaluator.templates import RenderError, item_context, render

ROW: dict[str, Any] = {
    "messages": [{"role": "user", "content": "2 < 3 & 'é'"}],
    "n": 7,
    "items": [1, 2],
    "none": None,
    "text": '["a"]',
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        pytest.param("{{ item.messages | tojson}}", ROW["messages"], id="tojson round trip"),
        pytest.param("{{ item.messages }}", ROW["messages"], id="one expression keeps its type"),
        pytest.param("{{item.n}}", 7, id="number"),
        pytest.param("{{ item.none }}", None, id="null"),
        pytest.param("{{ item.text }}", '["a"]', id="text that looks like JSON stays text"),
        pytest.param("n is {{ item.n }}", "n is 7", id="text around"),
        pytest.param("{{ item.n }}{{ item.n }}", "77", id="two expressions are text"),
        pytest.param("{{ item.items }}", [1, 2], id="a key called items"),
        pytest.param("{{ n + 1 }}", 8, id="keys at top level"),
        pytest.param("plain", "plain", id="no template"),
        pytest.param("tools: {{ item.items | tojson }}", "tools: [1, 2]", id="JSON inside prose"),
        pytest.param({"a": ["{{ item.n }}", 5, None]}, {"a": [7, 5, None]}, id="nested"),
        pytest.param("{% for i in item.items %}{{ i }};{% endfor %}", "1;2;", id="loop"),
    ],
)
def test_templates_render_to_json_values(template: Any, expected: Any) -> None:
    assert render(template, {**ROW, "item": ROW}) == expected


def test_tojson_escapes_no_html_and_keeps_letters() -> None:
    text = render("x {{ item.messages[0].content | tojson }}", {"item": ROW})
    assert text == "x \"2 < 3 & 'é'\""


@pytest.mark.parametrize(
    "template", ["{{ item.missing }}", "{{ missing }}", "a {{ item.missing }}", "{{ x | tojson }}"]
)
def test_a_missing_variable_is_named(template: str) -> None:
    with pytest.raises(RenderError, match="missing|'x' is undefined"):
        render(template, {"item": ROW})


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ item.__class__.__init__.__globals__ }}",
        "x{{ item.messages.__class__.__base__ }}",
        "{{ '{0.__class__.__init__}'.format(item) }}",
        "{{ item['__class__'].__mro__ }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ self.__init__.__globals__ }}",
        "{{ (item | attr('__class__')).__mro__ }}",
        "{% for m in ['__class__'] %}{{ item | attr(m) | attr('__mro__') }}{% endfor %}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os }}",
        "{{ item.messages.append(1) }}",
        "{{ item.update({'n': 1}) }}",
        "{{ range(999999999) | list }}",
        "{{ 'a' * 99999999 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ range }}",
        "{{ item.n.real.__int__ }}",
    ],
)
def test_an_escape_from_the_sandbox_is_refused(template: str) -> None:
    row = {"messages": [1], "n": 7}
    with pytest.raises(RenderError):
        render(template, {"item": row})
    assert row == {"messages": [1], "n": 7}


def test_a_broken_template_is_refused_with_its_text() -> None:
    with pytest.raises(RenderError, match=r"item\.n"):
        render("{{ item.n", {"item": ROW})


def test_item_keys_are_normalised_and_clashes_numbered() -> None:
    item = item_context({"Query Text": 1, "query-text": 2, "QUERY.TEXT": 3})
    assert [item["query_text"], item["query_text_1"], item["query_text_2"]] == [1, 2, 3]
    assert item["Query Text"] == 1
