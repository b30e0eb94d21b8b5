"""What is mended in the text of a page, and what is left of its style sheets; no browser is needed."""

import pytest

from tools.markup import mended
from tools.styles import bundle, slim

ARROW = '<summary><span class="toctree-toggle" role="presentation"><i></i></span></summary>'


def part(title, pages, current=""):
    caption = (
        f'<p aria-level="2" class="caption" role="heading"><span class="caption-text">{title}</span></p>'
    )
    items = "".join(f'<li class="toctree-l1"><a href="#">{page}</a></li>' for page in pages)
    return f'{caption}\n<ul class="{current}nav bd-sidenav">{items}</ul>\n'


def side_bar(*parts):
    return f'<nav class="bd-links bd-docs-nav" aria-label="Main"><div>{"".join(parts)}</div>\n</nav>'


def test_an_arrow_is_called_after_its_link():
    for marks in ("reference internal", "current reference internal"):
        link = f'<a class="{marks}" href="x.html">Layers &amp; more</a>'
        assert 'aria-label="below Layers &amp; more"' in mended(f"{link}<details>{ARROW}")


def test_a_label_does_not_hide_the_words_of_a_fold():
    text = '<summary aria-label="Toggle hidden content"><p>Show code</p></summary>'
    assert mended(text) == "<summary><p>Show code</p></summary>"


def test_parameters_are_lines_and_no_definitions():
    text = (
        '<dt class="sig" id="f">f(<dl>\n<dd>a,</dd>\n<dd>b</dd>\n</dl>)</dt><dd><dl class="simple"></dl></dd>'
    )
    found = mended(text)
    assert found.count('<span class="sig-line">') == 2
    assert '<dl class="simple"></dl>' in found
    assert "<dl>" not in found


def test_a_cell_without_words_is_no_head():
    found = mended('<tr><th scope="col" style="x"></th><th><p></p></th><th>kept</th></tr>')
    assert found == "<tr><td></td><td></td><th>kept</th></tr>"


def test_regions_of_one_name_are_numbered():
    region = '<div class="course-table" role="region" aria-label="claims">'
    assert mended(region * 2) == region + region.replace("claims", "claims (2)")


def test_parts_fold_unless_the_reader_is_there():
    found = mended(
        side_bar(
            part("Start here", ["a"]),
            part("Layers", ["b", "c"], "current "),
            part("Theory", ["d"]),
            part("Look things up", ["e"]),
        )
    )
    places = [found.index(title) for title in ("Start here", "Look things up", "Layers", "Theory")]
    assert places == sorted(places)
    assert found.count('<details class="part" open>') == 1
    assert found.count('<details class="part">') == 1
    assert '<span class="count">2</span>' in found
    assert found.count('<li class="toctree-l1">') == 5
    assert found.endswith("</div>\n</nav>")


@pytest.mark.parametrize(
    ("sheet", "left"),
    [
        (".a{x:1}.b{x:2}", ".a{x:1}\n"),
        (".a , .b > .a{x:1}", ".a{x:1}\n"),
        (".a:not(.b){x:1}", ".a:not(.b){x:1}\n"),
        (":is(.a, .b){x:1}", ":is(.a, .b){x:1}\n"),
        ("#b p{x:1} p{y:2;}", "p{y:2;}\n"),
        ("[href='#b.c']{x:1}", "[href='#b.c']{x:1}\n"),
        ("@media print{.b{x:1}}@media print{.a{x:1}}", "@media print{.a{x:1}\n}\n"),
        ("@font-face{font-family:b}/* .a{ */", ""),
        ("@keyframes a{from{x:1}to{x:2}}", "@keyframes a{from{x:1}to{x:2}}\n"),
        (".a{x:url(\"data:;,<a href='{'/*>\")}.b{x:1}", ".a{x:url(\"data:;,<a href='{'/*>\")}\n"),
        ("@charset 'utf-8';@import 'a';.a{x:1}", "@import 'a';.a{x:1}\n"),
        (".a\\:b{x:1}", ""),
    ],
)
def test_a_rule_stays_while_one_of_its_selectors_can_fit(sheet, left):
    assert slim(sheet, {"a"}) == left


def test_a_sheet_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"basic\.css"):
        bundle(tmp_path)
