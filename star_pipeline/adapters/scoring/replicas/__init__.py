"""Scoring on a Ray cluster: this process tokenises, plans batches and puts losses together; replicas on its machines compute the batches.

A value is the local scorer's, bit by bit, since what a batch holds is decided here, and a replica that computes other values than the
lake's is refused (``probe``). Of a replica that is lost the batches go to others (``pool``).
"""
