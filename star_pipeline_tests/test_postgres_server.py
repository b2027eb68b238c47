"""The throwaway server does what the tests that need it rely on."""


def test_a_killed_server_starts_again_with_what_was_committed(postgres):
    database = postgres.database().rsplit("/", 1)[1]
    postgres.query("CREATE TABLE kept(n integer)", database=database)
    postgres.query("INSERT INTO kept VALUES (%s)", 7, database=database)
    postgres.kill()
    assert not postgres.running
    postgres.start()
    assert postgres.query("SELECT n FROM kept", database=database) == [(7,)]
