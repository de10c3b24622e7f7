"""A page's part that a command writes, between two marks."""

from __future__ import annotations


def with_part(page: str, name: str, part: str) -> str:
    """Returns a page with `part` between `<!-- NAME: begin -->` and `<!-- NAME: end -->`.

    Raises:
        ValueError: The page has no such marks.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, is_begun, rest = page.partition(begin)
    _, is_ended, after = rest.partition(end)
    if not (is_begun and is_ended):
        raise ValueError(f"the page has no {begin} and {end}")
    return f"{before}{begin}\n{part}{end}{after}"
