-- Seeds that are in the final data sets of two attached lakes, base and other, with another pair, instruction or response.
SELECT
    b.source,
    b.source_row,
    len(list_filter(b.messages, lambda turn: turn.role = 'assistant')) AS turn,
    b.seed_id,
    b.pair_id AS base_pair,
    o.pair_id AS other_pair
FROM base.star_dataset AS b
JOIN other.star_dataset AS o USING (seed_id)
WHERE (b.pair_id, b.instruction, b.response) IS DISTINCT FROM (o.pair_id, o.instruction, o.response)
ORDER BY b.source, b.source_row, turn, b.seed_id
