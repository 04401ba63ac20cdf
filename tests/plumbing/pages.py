"""Pages of any sections, as the tests of their parts need them."""

from collections.abc import Sequence

from markupsafe import Markup

from batchloop.container import report

TEMPLATE = """{% extends "page.html" %}{% from "parts.html" import section %}
{% block sections %}{% for title, text, body in sections %}{{ section(title, text, body) }}{% endfor %}{% endblock %}"""
Section = tuple[str, str, Markup]  # title, text, tables and charts


def page(title: str, verdict: Sequence[str], sections: Sequence[Section]) -> str:
    """A verdict is a word, its tone, the reason, and what to do."""
    given = dict(zip(("word", "tone", "reason", "next_step"), verdict, strict=True))
    template = report._environment(report.HERE).from_string(TEMPLATE)
    return template.render(title=title, verdict=given, sections=sections)


def join(*parts: Markup) -> Markup:
    return Markup().join(parts)
