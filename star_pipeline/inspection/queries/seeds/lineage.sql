-- Where does each candidate come from, and why was it selected or rejected?
-- A row a candidate, from the seed's record to the selection. One seed: SELECT * FROM seed_lineage('seeds.json', 7).
-- source: seed file, relative to seeds/, where the record is now
-- source_row: its record there, counted from 1
-- turn: which of the record's answers it is about, counted from 1
-- probability: the pair's when it was drawn; null where it was not drawn
-- left_out: the setting that kept the selected row out of the final data set (see left_out); null where none did
-- why: why it was selected, or what it lacked
SELECT
    coalesce(e.source, q.source) AS source,
    coalesce(e.source_row, q.source_row) AS source_row,
    len(list_filter(q.history, lambda message: message.role = 'assistant')) + 1 AS turn,
    q.seed_id,
    p.shard,
    p.slot,
    p.candidate_id,
    p.pair_id,
    p.origin,
    p.probability,
    p.snapshot_id,
    q.instruction AS seed_instruction,
    q.response AS seed_response,
    c.instruction,
    c.response,
    c.status,
    c.error,
    i.ifd_small,
    i.ifd_large,
    i.gap,
    i.gap_calibrated,
    v.verdict,
    v.flipped,
    s.pi_dual,
    s.pi_llm,
    s.pi,
    s.rank,
    s.selected,
    s.selection,
    l.reason AS left_out,
    CASE
        WHEN l.detail IS NOT NULL THEN 'selected, then left out of the final data set: ' || l.detail
        WHEN s.selection = 'best' THEN 'selected: highest pi of its seed'
        WHEN s.selection = 'fallback_base' THEN 'selected: the reference, since no candidate has a positive pi'
            || CASE WHEN i.status = 'too_short' THEN '; it is too short for a gap' WHEN i.status <> 'ok' THEN '; it could not be scored: ' || i.status ELSE '' END
        WHEN s.selection = 'fallback_seed' THEN 'selected: the seed itself, since the reference failed'
        WHEN c.status = 'failed' THEN concat_ws(': ', 'rejected', c.error)
        WHEN i.status = 'too_short' THEN 'rejected: too short for a gap (scoring.least_tokens)'
        WHEN i.status <> 'ok' THEN 'rejected: not scored, ' || i.status
        WHEN v.verdict IN ('failed', 'unparsed') THEN concat_ws(', ', 'rejected: ' || v.verdict, v.error)
        WHEN coalesce(i.gap_calibrated, i.gap) <= 0 THEN 'rejected: its gap is not positive'
        WHEN v.verdict = 'inconsistent' AND s.pi_llm IS NULL THEN 'rejected: the verdict turned round with the order'
        WHEN s.candidate_id IS NULL THEN 'not decided yet'
        WHEN s.pi_llm = 0 THEN 'rejected: judged worse than the reference'
        ELSE 'rejected: another candidate has a higher pi'
    END AS why
FROM sampling_plan AS p
JOIN seed_shards AS q USING (seed_id)
LEFT JOIN seed_catalog AS e USING (seed_id)
LEFT JOIN candidates AS c USING (candidate_id)
LEFT JOIN ifd_scores AS i USING (candidate_id)
LEFT JOIN judge_verdicts AS v USING (candidate_id)
LEFT JOIN composite_scores AS s USING (candidate_id)
LEFT JOIN left_out_rows AS l ON l.candidate_id = p.candidate_id AND s.selected
ORDER BY p.shard, source, source_row, turn, q.seed_id, p.slot
