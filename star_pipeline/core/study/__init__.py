"""The mathematics of a study: which rows each training set has, and what its evaluation shows."""
