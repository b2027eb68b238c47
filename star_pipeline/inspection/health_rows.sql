-- A row a planned candidate with what the figures of health are computed from; the seeds in order, since the intervals depend on it.
SELECT
    p.seed_id,
    p.pair_id,
    p.instruction_agent,
    p.response_agent,
    p.origin,
    c.status,
    c.error_kind,
    c.instruction IS NOT NULL AS rewritten,
    length(c.response) AS characters,
    i.status AS scored,
    i.n_tokens_small AS tokens,
    coalesce(i.gap_calibrated, i.gap) AS gap,
    v.verdict,
    -- where probabilities are read (judge.mode: logprobs), position cancels, and the orders alone decide nothing
    CASE WHEN coalesce(v.template, '') NOT LIKE '%letter' THEN v.verdict_first END AS verdict_first,
    CASE WHEN coalesce(v.template, '') NOT LIKE '%letter' THEN v.verdict_swapped END AS verdict_swapped,
    CASE WHEN v.template LIKE '%letter' THEN v.p_better END AS p_better,
    CASE WHEN v.verdict IN ('better', 'worse') THEN coalesce(length(b.response), length(q.response)) END AS reference_characters,
    s.pi,
    s.selected,
    s.selection = 'best' AS best
FROM sampling_plan AS p
LEFT JOIN candidates AS c USING (candidate_id)
LEFT JOIN ifd_scores AS i USING (candidate_id)
LEFT JOIN judge_verdicts AS v USING (candidate_id)
LEFT JOIN composite_scores AS s USING (candidate_id)
LEFT JOIN candidates AS b ON b.candidate_id = v.base_candidate_id
LEFT JOIN seed_shards AS q ON q.seed_id = p.seed_id
ORDER BY p.shard, p.seed_id, p.slot
