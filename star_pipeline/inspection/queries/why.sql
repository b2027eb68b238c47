-- Why each candidate of the first ten seeds was selected or rejected (see the view lineage for all)
SELECT source, source_row, slot, candidate_id, pair_id, origin, round(gap, 4) AS gap, verdict, round(pi, 4) AS pi, why
FROM lineage WHERE source_row <= 10 ORDER BY source, source_row, slot
