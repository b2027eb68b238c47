-- What did the judge compare with what, and what did it say?
-- A row a candidate that it came to a verdict on. Where the reference failed, the seed's own response stands in its place.
-- flipped: a win in one order was a loss in the other
-- verdict_first: the candidate's fate as answer A
-- verdict_swapped: the candidate's fate as answer B
-- response_agent: who wrote the candidate's response; seed: the seed's own
-- reference_agent: who wrote the reference's response; seed: the seed's own
-- characters: of the candidate's response
-- reference_characters: of the reference's response
-- judge_model: the model that the settings behind the shard's verdicts name for the judge; the agent's name where they are not recorded
-- response_model: the same for the candidate's response agent; null for the seed's own response
-- reference_model: the same for the reference's response agent; null for the seed's own response
SELECT
    v.shard,
    v.candidate_id,
    v.seed_id,
    p.pair_id,
    v.base_candidate_id,
    v.verdict,
    v.flipped,
    v.verdict_first,
    v.verdict_swapped,
    v.judge_agent,
    p.response_agent,
    coalesce(r.response_agent, 'seed') AS reference_agent,
    length(c.response) AS characters,
    coalesce(length(b.response), length(q.response)) AS reference_characters,
    coalesce(j.model, v.judge_agent) AS judge_model,
    CASE WHEN p.response_agent <> 'seed' THEN coalesce(m.model, p.response_agent) END AS response_model,
    CASE WHEN r.response_agent <> 'seed' THEN coalesce(n.model, r.response_agent) END AS reference_model
FROM judge_verdicts AS v
JOIN sampling_plan AS p USING (candidate_id)
JOIN candidates AS c USING (candidate_id)
JOIN seed_shards AS q ON q.seed_id = v.seed_id
LEFT JOIN sampling_plan AS r ON r.candidate_id = v.base_candidate_id
LEFT JOIN candidates AS b ON b.candidate_id = v.base_candidate_id
LEFT JOIN agents AS j ON j.made = 'judge_verdicts' AND j.shard = v.shard AND j.agent = v.judge_agent
LEFT JOIN agents AS m ON m.made = 'candidates' AND m.shard = v.shard AND m.agent = p.response_agent
LEFT JOIN agents AS n ON n.made = 'candidates' AND n.shard = v.shard AND n.agent = r.response_agent
WHERE v.verdict IN ('better', 'worse', 'tie', 'inconsistent')
ORDER BY v.shard, v.seed_id, p.slot
