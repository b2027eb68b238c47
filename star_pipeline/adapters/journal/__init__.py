"""The journal (``core.journal``): every reply on disk before anything uses it, so that nothing is paid twice.

``opening``       which journal a lake has, to write or to read
``older``         one that the configuration does not name: told of, so that nothing in it is paid again
``request_keys``  what names a request in it
``group_commit``  what is written at the same time is written together
``sqlite``        one file, for the processes of a machine
``postgres``      a database, for any machines; ``copying`` puts the file into it
"""
