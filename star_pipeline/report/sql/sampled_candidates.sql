-- The candidates of the sampled seeds, by seed and slot. The texts come from the tables: of the view all of them would be held at once.
WITH told AS (
    SELECT seed_id, slot, candidate_id, pair_id, origin, probability, status, error, ifd_small, ifd_large, gap, gap_calibrated, pi_dual, pi_llm, pi,
        rank, selected, selection, why, verdict, flipped
    FROM lineage WHERE seed_id IN (SELECT seed_id FROM chosen)
),
texts AS (
    SELECT candidate_id, instruction, response FROM candidates WHERE seed_id IN (SELECT seed_id FROM chosen)
),
words AS (
    SELECT candidate_id, margin, verdict_first, verdict_swapped, reply_first, reply_swapped, error AS judge_error
    FROM judge_verdicts WHERE seed_id IN (SELECT seed_id FROM chosen)
)
SELECT * EXCLUDE (candidate_id) FROM told LEFT JOIN texts USING (candidate_id) LEFT JOIN words USING (candidate_id)
ORDER BY seed_id, slot
