"""Sentences about images, said of texts: the same with the other word."""

import re
from collections.abc import Iterable

# Not within a longer name (near/image-captions, data.id.images), and not in backquotes, where names stand.
WORD = r"`[^`]*`|(?<![\w./-])(?:([Aa])n )?([Ii]mage|[Pp]icture)(s?)(?![\w/-]|\.\w)"


def of_texts(sentence: str, names: Iterable[str] = ()) -> str:
    """A sentence about texts.

    Args:
        names: what people have called something; stays as it is.
    """
    kept = "|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in sorted(names, key=len, reverse=True) if name)

    def other(found: re.Match[str]) -> str:
        article, noun, plural = found["a"], found["noun"], found["plural"]
        if not noun:
            return found[0]
        return f"{f'{article} ' if article else ''}{'T' if noun[0].isupper() else 't'}ext{plural}"

    named = WORD.replace("([Aa])", "(?P<a>[Aa])").replace("([Ii]mage", "(?P<noun>[Ii]mage").replace("(s?)", "(?P<plural>s?)")
    return re.sub(f"{kept}|{named}" if kept else named, other, sentence)
