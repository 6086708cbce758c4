"""What every HTML page of ours must be."""

import base64
import hashlib
import re
from xml.etree.ElementTree import Element

import html5lib


def checked(text: str) -> Element:
    """A page's tree: HTML 5 without one error, every name once, every picture with words, nothing that would be fetched.

    html5lib knows SVG's elements; what is in them, names that are referred to above all, is looked at here.
    """
    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)
    names = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(names) == len(set(names))
    referred = re.findall(r'(?:href="#|url\(#)([\w-]+)', text)
    assert set(referred) <= set(names)
    for element in tree.iter():
        if not isinstance(element.tag, str):
            continue
        tag = element.tag.split("}")[-1]
        for name in ("src", "href", "srcset", "action", "data"):
            assert element.get(name, "#").startswith(("#", "data:")), (tag, element.get(name))
        assert not any(name.startswith("on") for name in element.attrib), tag
        if tag == "img":
            assert element.get("alt")
        if tag == "svg":
            assert element.get("aria-hidden") == "true"
        if element.get("role") == "img":
            assert element.get("aria-label")
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    (script,) = tree.iter("script")
    policy = next(element.get("content") for element in tree.iter("meta") if element.get("http-equiv") == "Content-Security-Policy")
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy
    return tree


def words(element: Element) -> str:
    """What a page, or a part of it, says."""
    return " ".join(" ".join(element.itertext()).split())
