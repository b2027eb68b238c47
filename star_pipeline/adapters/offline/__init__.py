"""What the offline profile runs on: no API key, no network.

The agents and the judge here are deterministic text transforms, not language models. They answer through the same
litellm code path as real LLMs do, so that the whole pipeline can be tried out in minutes. As training data their
texts are worthless beyond that. The scoring models are real but tiny causal language models, which know the starter
seeds and little else.
"""
