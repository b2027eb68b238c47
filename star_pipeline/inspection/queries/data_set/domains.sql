-- What are the selected rows about?
-- A row a task domain, largest first. Means are over its selected rows, those left out by a setting too.
-- domain: 0 is the largest
-- rows: selected rows of live seeds
-- in_data_set: how many of them are in the final data set
-- best_pair: first of the domain in pair_domains; null where no pair has enough candidates
-- ahead: best_pair's interval of the mean lies above those of all the other pairs that have enough candidates
-- most_selected_pair: the pair that made most of the rows
-- near_duplicates: rows that repeat another one of the data set nearly, its leader not counted
-- example: the instruction with the highest pi
WITH chosen AS (
    SELECT
        d.domain,
        d.domain_name,
        d.seed_id,
        d.near_duplicate_of <> d.seed_id AS repeats,
        s.pi,
        s.gap,
        t.seed_id IS NOT NULL AS in_data_set,
        CASE WHEN s.selection = 'fallback_seed' THEN 'seed' ELSE s.pair_id END AS pair_id,
        CASE WHEN s.selection = 'fallback_seed' THEN q.instruction ELSE c.instruction END AS instruction
    FROM task_domains AS d
    JOIN composite_scores AS s USING (candidate_id)
    JOIN candidates AS c USING (candidate_id)
    JOIN seed_shards AS q ON q.seed_id = d.seed_id
    LEFT JOIN star_dataset AS t ON t.seed_id = d.seed_id
),
most AS (
    SELECT domain, pair_id AS most_selected_pair
    FROM chosen
    GROUP BY domain, pair_id
    QUALIFY row_number() OVER (PARTITION BY domain ORDER BY count(*) DESC, pair_id) = 1
)
SELECT
    c.domain,
    any_value(c.domain_name) AS domain_name,
    count(*) AS rows,
    count(*) FILTER (WHERE c.in_data_set) AS in_data_set,
    avg(c.pi) AS mean_pi,
    mean_low(c.pi) AS mean_pi_low,
    mean_high(c.pi) AS mean_pi_high,
    avg(c.gap) AS mean_gap,
    any_value(p.pair_id) AS best_pair,
    coalesce(any_value(p.ahead), false) AS ahead,
    any_value(m.most_selected_pair) AS most_selected_pair,
    count(*) FILTER (WHERE c.repeats) AS near_duplicates,
    first(c.instruction ORDER BY c.pi DESC NULLS LAST, c.seed_id) AS example
FROM chosen AS c
LEFT JOIN pair_domains AS p ON p.domain = c.domain AND p.place = 1
LEFT JOIN most AS m ON m.domain = c.domain
GROUP BY c.domain
ORDER BY c.domain
