-- Which rows of the final data set are the same, to the letter?
-- A row a text that occurs more than once, most frequent first.
-- same: row: everything; prompt: all turns before the response; response: the response alone. A row's twins are listed under all three
-- rows: rows that share it
-- seed_ids: these rows, in order
-- example: the shared text: the last instruction, or the response
WITH texts AS (
    SELECT seed_id, instruction, response, hash(messages) AS whole, hash(messages[:-2]) AS prompt
    FROM star_dataset
)
SELECT 'row' AS same, count(*) AS rows, list(seed_id ORDER BY seed_id) AS seed_ids, any_value(instruction) AS example
FROM texts
GROUP BY whole, instruction, response
HAVING count(*) > 1
UNION ALL
SELECT 'prompt', count(*), list(seed_id ORDER BY seed_id), any_value(instruction)
FROM texts
GROUP BY prompt, instruction
HAVING count(*) > 1
UNION ALL
SELECT 'response', count(*), list(seed_id ORDER BY seed_id), any_value(response)
FROM texts
GROUP BY response
HAVING count(*) > 1
ORDER BY rows DESC, same, example
