-- What failed, by stage, pair and reason
SELECT stage, pair_id, kind, count(*) AS times, any_value(reason) AS example FROM failures GROUP BY ALL ORDER BY times DESC
