"""LLM calls: nothing paid twice, limits kept, faults survived, the budget held.

``chat`` is the door (``core.ports.ChatModel``); a request passes through the rooms in this order:

``adapters.journal``  answered before? identical requests in flight are sent once; a reply is on disk before anything uses it
``limits``     a slot of the agent's, requests and tokens a minute: they queue and never reject
``breaker``    an agent that is out of reach gets one probe at a time, and in the end stops the run
``budget``     the worst case is reserved in the journal before sending, and settled from the reply's usage
``senders``    one call, ``direct`` or through litellm (``transport``); ``failures`` tells what may pass and what may have been billed

The requests of agents that ask in batches leave after the first room for ``batches``: the journal has them on disk with their
reservations, ``batch_lines`` writes and reads the files, ``batch_service`` speaks with the provider.
"""
