-- What a selected row costs, by the pair it came from: all that the pair's candidates and their verdicts cost, over its rows
SELECT c.pair_id, sum(c.cost_usd) AS cost_usd, coalesce(any_value(s.rows), 0) AS selected_rows,
    sum(c.cost_usd) / any_value(s.rows) AS usd_per_selected_row
FROM costs AS c LEFT JOIN (SELECT pair_id, count(*) AS rows FROM star_dataset GROUP BY pair_id) AS s USING (pair_id)
GROUP BY c.pair_id ORDER BY usd_per_selected_row NULLS LAST, c.pair_id
