-- From seed to selection, a row a candidate: where it comes from, how it was drawn, made, scored and judged, and why it was taken or not.
SELECT
    q.source,
    q.source_row,
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
    v.verdict,
    v.flipped,
    s.pi_dual,
    s.pi_llm,
    s.pi,
    s.rank,
    s.selected,
    s.selection,
    CASE
        WHEN s.selection = 'best' THEN 'selected: highest pi of its seed'
        WHEN s.selection = 'fallback_base' THEN 'selected: the reference, since no candidate has a positive pi'
        WHEN s.selection = 'fallback_seed' THEN 'selected: the seed itself, since the reference failed'
        WHEN c.status = 'failed' THEN 'rejected: ' || c.error
        WHEN i.status <> 'ok' THEN 'rejected: not scored, ' || i.status
        WHEN v.verdict IN ('failed', 'unparsed') THEN 'rejected: ' || v.verdict || ', ' || v.error
        WHEN i.gap <= 0 THEN 'rejected: its gap is not positive'
        WHEN s.pi_llm = 0 THEN 'rejected: judged worse than the reference'
        ELSE 'rejected: another candidate has a higher pi'
    END AS why
FROM sampling_plan AS p
JOIN seed_shards AS q USING (seed_id)
LEFT JOIN candidates AS c USING (candidate_id)
LEFT JOIN ifd_scores AS i USING (candidate_id)
LEFT JOIN judge_verdicts AS v USING (candidate_id)
LEFT JOIN composite_scores AS s USING (candidate_id)
ORDER BY p.shard, q.source, q.source_row, p.slot
