-- What a lake holds, in (section, measure, value), in order; selected rows are those of the final data set.
WITH latest AS (
    SELECT pair_id, probability
    FROM agent_pair_probabilities
    WHERE shard = (SELECT max(shard) FROM agent_pair_probabilities)
),
measures AS (
    SELECT 1 AS place, 'made' AS section, 'seeds' AS measure, count(*)::DOUBLE AS value FROM seed_catalog WHERE live
    UNION ALL
    SELECT 2, 'made', 'shards', count(DISTINCT shard) FROM agent_pair_probabilities
    UNION ALL
    SELECT 3, 'made', 'candidates', count(*) FROM candidates
    UNION ALL
    SELECT 4, 'made', 'candidates failed', count(*) FROM candidates WHERE status = 'failed'
    UNION ALL
    SELECT 5, 'made', 'final rows', count(*) FROM star_dataset
    UNION ALL
    SELECT 6, 'verdicts', verdict, count(*) FROM judge_verdicts GROUP BY verdict
    UNION ALL
    SELECT 7, 'selections', selection, count(*) FROM star_dataset GROUP BY selection
    UNION ALL
    SELECT 8, 'selected, mean', 'gap', avg(gap) FROM star_dataset
    UNION ALL
    SELECT 9, 'selected, mean', 'pi', avg(pi) FROM star_dataset
    UNION ALL
    SELECT 10, 'selected, mean', 'ifd_small', avg(ifd_small) FROM star_dataset
    UNION ALL
    SELECT 11, 'selected, mean', 'ifd_large', avg(ifd_large) FROM star_dataset
    UNION ALL
    SELECT 12, 'final probabilities', pair_id, probability FROM latest
    UNION ALL
    SELECT 13, 'paid', 'USD', coalesce(sum(cost_usd), 0) FROM spend
    UNION ALL
    SELECT 14, 'paid', 'tokens', coalesce(sum(prompt_tokens + completion_tokens), 0) FROM spend
    UNION ALL
    SELECT 15, 'paid', 'replies', coalesce(sum(replies), 0) FROM spend
    UNION ALL
    SELECT 16, 'paid', 'replies to ' || stage || ', ' || agent, replies FROM spend
)
SELECT place, section, measure, value
FROM measures
ORDER BY place, measure
