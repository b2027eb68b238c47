-- What a selected row costs by the pair it came from, in USD and in tokens.
SELECT r.pair_id, r.selected_rows, r.cost_usd, t.tokens, r.usd_per_selected_row, t.tokens / nullif(r.selected_rows, 0) AS tokens_per_selected_row
FROM cost_per_row AS r
JOIN (SELECT pair_id, sum(prompt_tokens + completion_tokens)::BIGINT AS tokens FROM costs GROUP BY pair_id) AS t USING (pair_id)
ORDER BY r.selected_rows = 0 DESC, r.cost_usd DESC, t.tokens DESC, r.pair_id
