"""The journal in an SQLite file: for the processes of one machine, on a local disk.

``file``     opening it, whichever version made it
``journal``  group commit: what is written at the same time shares a transaction
``replies``, ``ledger``, ``batches``  what a transaction is made of
``reading``  for those who only look
"""
