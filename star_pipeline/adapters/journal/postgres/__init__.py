"""The journal in a PostgreSQL database: for processes on any machine, and for many lakes.

``schema``    its tables, made at the first opening
``session``   one connection in a thread of its own, which no event loop waits for
``changes``   what can be written; ``transaction`` writes many at once
``queries``   what can be asked
``journal``   the port; ``unsent`` keeps what was paid while the database was out of reach
"""
