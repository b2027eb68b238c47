-- How did the pairs' probabilities move, with a column a pair?
-- A row a shard; a table and no view, since its columns depend on the pairs.
PIVOT (SELECT shard, pair_id, round(probability, 4) AS probability FROM agent_pair_probabilities)
ON pair_id
USING first(probability)
GROUP BY shard
ORDER BY shard
