-- What does a row of the final data set cost, by the pair that made it?
-- A row a pair, cheapest row first: all that its candidates and their verdicts cost, over its rows in the final data set. An
-- instruction rewritten once for several pairs is booked on the first of them, which makes that one look dearer than it is.
-- generated_usd: for rewriting and responding
-- judged_usd: for the verdicts on its candidates
-- selected_rows: its rows in the final data set
-- usd_per_selected_row: null where it has none
SELECT
    c.pair_id,
    coalesce(sum(c.cost_usd) FILTER (WHERE c.stage <> 'judge'), 0) AS generated_usd,
    coalesce(sum(c.cost_usd) FILTER (WHERE c.stage = 'judge'), 0) AS judged_usd,
    sum(c.cost_usd) AS cost_usd,
    coalesce(any_value(s.rows), 0) AS selected_rows,
    sum(c.cost_usd) / any_value(s.rows) AS usd_per_selected_row
FROM costs AS c
LEFT JOIN (SELECT pair_id, count(*) AS rows FROM star_dataset GROUP BY pair_id) AS s USING (pair_id)
GROUP BY c.pair_id
ORDER BY usd_per_selected_row NULLS LAST, c.pair_id
