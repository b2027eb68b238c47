-- Which selected rows ask nearly the same?
-- A row a member of a group of two or more, largest group first, the leader at its top.
-- near_duplicate_of: the group's leader, the member with the highest pi
-- group_rows: members of the group
-- leads: it is the leader
-- nearest_similarity: cosine to its nearest other row
-- in_data_set: whether it is in the final data set
WITH grouped AS (
    SELECT *, count(*) OVER (PARTITION BY near_duplicate_of) AS group_rows
    FROM task_domains
)
SELECT
    g.near_duplicate_of,
    g.group_rows,
    g.seed_id,
    g.near_duplicate_of = g.seed_id AS leads,
    e.source,
    e.source_row,
    s.pair_id,
    s.pi,
    g.nearest_seed_id,
    g.nearest_similarity,
    t.seed_id IS NOT NULL AS in_data_set,
    coalesce(t.instruction, c.instruction, q.instruction) AS instruction
FROM grouped AS g
JOIN composite_scores AS s USING (candidate_id)
JOIN candidates AS c USING (candidate_id)
JOIN seed_shards AS q ON q.seed_id = g.seed_id
LEFT JOIN seed_catalog AS e ON e.seed_id = g.seed_id
LEFT JOIN star_dataset AS t ON t.seed_id = g.seed_id
WHERE g.group_rows > 1
ORDER BY g.group_rows DESC, g.near_duplicate_of, leads DESC, s.pi DESC NULLS LAST, g.seed_id
