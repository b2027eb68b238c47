-- Does the run mean anything: do judge, scores and probabilities carry information?
-- A row a signature of a run that means nothing, over all shards; the worst first. How each figure is computed, and the limits beyond
-- which it is doubtful or unfit, are in the guide "In production". Intervals of 95%: Wilson's for shares, bootstrap over seeds else.
-- signature: its name
-- verdict: fine; doubtful: the figure lies beyond its limit; unfit: its whole interval lies beyond a further one
-- what: what the figure is
-- unit: share, difference or correlation
-- figure: null where nothing tells
-- n: how many things (comparisons, candidates, rows) a share is of, else how many seeds
-- meaning: what the figure means here
-- remedy: what to do; empty where the verdict is fine
SELECT signature, verdict, what, unit, figure, low, high, n, meaning, remedy
FROM health_lines
ORDER BY CASE verdict WHEN 'unfit' THEN 0 WHEN 'doubtful' THEN 1 ELSE 2 END, rowid
