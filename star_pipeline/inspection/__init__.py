"""The inspection file: every table in DuckDB, the views on them (views/*.sql) and shipped queries (queries/*.sql)."""
