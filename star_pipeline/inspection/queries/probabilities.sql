-- How the pair probabilities moved, shard by shard, a column a pair
PIVOT (SELECT shard, pair_id, round(probability, 4) AS probability FROM probability_history) ON pair_id USING first(probability) ORDER BY shard
