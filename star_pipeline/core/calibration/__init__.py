"""Before a run is paid for: are judge, scoring models and agents fit for it? Probes made of the user's own seeds, and what is made of
the answers. Every figure has a 95% interval; ``findings`` explains when it is fine, doubtful or unfit.
"""
