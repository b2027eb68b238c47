-- How near each selected row is to its nearest neighbour: rows by cosine, in steps of 0.05, and how many of them lead no group.
SELECT
    round(floor(least(greatest(nearest_similarity, 0), 0.9999) * 20) / 20, 2) AS low,
    low + 0.05 AS high,
    count(*) AS rows,
    count(*) FILTER (WHERE near_duplicate_of <> seed_id) AS near_duplicates
FROM task_domains WHERE nearest_similarity IS NOT NULL
GROUP BY low ORDER BY low
