-- How did the pairs' probabilities move, with a column a pair?
-- Superseded by probability_history; PIVOT makes columns of its pairs.
PIVOT (SELECT shard, pair_id, round(probability, 4) AS probability FROM agent_pair_probabilities)
ON pair_id
USING first(probability)
GROUP BY shard
ORDER BY shard
