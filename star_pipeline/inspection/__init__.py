"""The inspection file: every table in DuckDB, and the shipped queries (queries/<topic>/<name>.sql) as views of the same names.

``build`` makes the file, ``shipped`` reads the queries, ``answers`` writes what a query found in any format. Plots of it are drawn by
``star_pipeline.figures``, the page on it by ``star_pipeline.report``.
"""
