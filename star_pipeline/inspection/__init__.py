"""The inspection file: every table in DuckDB, and the shipped queries (queries/<topic>/<name>.sql) as views of the same names."""
