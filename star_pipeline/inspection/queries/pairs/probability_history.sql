-- How did the pairs' probabilities move from shard to shard (Eq. 8 or Thompson sampling; the paper's Figure 5)?
-- A row a shard and pair: the table agent_pair_probabilities, with the change. For a column a pair:
-- PIVOT (SELECT shard, pair_id, probability FROM probability_history) ON pair_id USING first(probability) ORDER BY shard
-- reward: sum of pi over the pair's candidates that were drawn
-- change: probability - probability_before
-- draws_total: up to and with the shard, as the columns after it; by evolution.method: thompson, else null
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
    parent_snapshot_id,
    draws_total,
    reward_total,
    squares_total,
    cost_total_usd,
    handicap,
    floor
FROM agent_pair_probabilities
ORDER BY shard_number, probability DESC, pair_id
