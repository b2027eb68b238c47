-- Why was each candidate of the first ten seeds selected or rejected?
-- The columns of lineage that fit a terminal; for other seeds ask lineage, or seed_lineage('seeds.json', 7).
-- source: seed file, relative to seeds/
-- turn: which of the record's answers it is about, counted from 1
-- why: why it was selected, or what it lacked
SELECT
    source,
    source_row,
    turn,
    slot,
    candidate_id,
    pair_id,
    origin,
    round(gap, 4) AS gap,
    verdict,
    round(pi, 4) AS pi,
    why
FROM lineage
WHERE source_row <= 10
ORDER BY source, source_row, turn, slot
