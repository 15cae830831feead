"""Markup is escaped unless it is markup already."""

from callboard_console.web.views.markup import EMPTY, Markup, join, node_link, tag


def test_text_is_escaped_and_markup_is_not():
    assert tag("p", "<script>", Markup("<b>ok</b>")) == "<p>&lt;script&gt;<b>ok</b></p>"


def test_attributes_are_escaped_and_spelled_with_dashes():
    assert tag("td", class_="a", data_act='x"y') == '<td class="a" data-act="x&quot;y"></td>'


def test_none_and_false_leave_an_attribute_out_and_true_writes_its_name():
    assert tag("input", hidden=True, value=None, disabled=False) == "<input hidden>"


def test_an_attribute_may_be_called_name():
    assert tag("input", name="who") == '<input name="who">'


def test_children_may_be_nested_numbers_or_nothing():
    assert tag("p", ["a", [1, None]], None, 2.5) == "<p>a12.5</p>"
    assert join(EMPTY, "&") == "&amp;"


def test_a_node_link_says_where_it_leads_with_and_without_script():
    link = node_link("green-house", "Green")
    assert 'href="node?node=green-house"' in link
    assert 'data-act="node:green-house"' in link
