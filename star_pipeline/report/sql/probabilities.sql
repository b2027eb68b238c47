-- The pair probabilities over the shards; of more than 300 shards every n-th, and the last. Shard 0 is the start.
WITH numbered AS (SELECT *, dense_rank() OVER (ORDER BY shard_number) AS place FROM probability_history),
every AS (SELECT greatest(1, ceil(max(place) / 300)) AS nth, max(place) AS last FROM numbered)
SELECT 0 AS place, 'start' AS shard, pair_id, probability_before AS probability
FROM numbered WHERE place = 1
UNION ALL
SELECT place, shard, pair_id, probability
FROM numbered, every WHERE place % nth = 0 OR place = last
ORDER BY place, pair_id
