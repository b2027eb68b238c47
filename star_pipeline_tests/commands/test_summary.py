"""What the summary of ``run`` says of money: what the tables cost, beside all that was paid."""

from star_pipeline.commands.summary import _paid


def test_what_was_paid_is_told_where_it_is_more_than_the_tables_cost():
    assert _paid(1.474, 1.474, 0.0) == ""
    assert _paid(1.474, 2.051, 0.0) == "; paid in all 2.0510 USD, of which 0.5770 for what is no longer in the tables"
    assert _paid(1.0, 1.0, 0.25) == "; up to 0.2500 USD for requests whose fate nobody knows"
