-- What was asked for and did not come?
-- A row a failed call, a response that could not be scored, or a comparison without a verdict.
-- stage: generate, score or judge
-- kind: a word to count by; of generate: a failed call's, or what was wrong with a reply (echo, lost_input, answered, refused, loop …)
-- reason: in full
SELECT shard, 'generate' AS stage, candidate_id, seed_id, pair_id, error_kind AS kind, error AS reason
FROM candidates
WHERE status = 'failed'
UNION ALL
SELECT i.shard, 'score', i.candidate_id, i.seed_id, c.pair_id, i.status, 'not scored: ' || i.status
FROM ifd_scores AS i
JOIN candidates AS c USING (candidate_id)
WHERE i.status NOT IN ('ok', 'no_candidate')
UNION ALL
SELECT v.shard, 'judge', v.candidate_id, v.seed_id, c.pair_id, v.verdict, v.error
FROM judge_verdicts AS v
JOIN candidates AS c USING (candidate_id)
WHERE v.verdict IN ('failed', 'unparsed')
ORDER BY shard, stage, seed_id
