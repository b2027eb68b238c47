-- The pair probabilities shard by shard (the paper's Figure 5).
SELECT
    shard,
    CAST(split_part(shard, '-', 1) AS INTEGER) AS shard_number,
    pair_id,
    n_sampled,
    reward,
    probability_before,
    probability,
    probability - probability_before AS change,
    snapshot_id,
    parent_snapshot_id
FROM agent_pair_probabilities
ORDER BY shard_number, probability DESC
