"""The pure core: records, tables, ports and the paper's equations. No Dagster, no files, no network; the linter says so."""
