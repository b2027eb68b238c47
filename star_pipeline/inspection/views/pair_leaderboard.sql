-- Which pairs make good data: a row a pair, best first. win_rate is over candidates with a verdict, selected_rate over those made.
SELECT
    c.pair_id,
    count(*) AS candidates,
    count(*) FILTER (WHERE c.status = 'failed') AS failed,
    count(*) FILTER (WHERE s.selected) AS selected,
    round(count(*) FILTER (WHERE s.selected) / count(*), 4) AS selected_rate,
    avg(s.pi) AS mean_pi,
    avg(i.gap) AS mean_gap,
    avg(s.pi_llm) AS mean_pi_llm,
    count(*) FILTER (WHERE v.verdict = 'better') AS better,
    count(*) FILTER (WHERE v.verdict = 'worse') AS worse,
    count(*) FILTER (WHERE v.verdict IN ('tie', 'inconsistent')) AS tied,
    round(
        count(*) FILTER (WHERE v.verdict = 'better')
        / nullif(count(*) FILTER (WHERE v.verdict IN ('better', 'worse', 'tie', 'inconsistent')), 0),
        4
    ) AS win_rate,
    sum(c.cost_usd) + coalesce(sum(v.cost_usd), 0) AS cost_usd,
    (
        SELECT arg_max(p.probability, p.shard) FROM agent_pair_probabilities AS p WHERE p.pair_id = c.pair_id
    ) AS probability
FROM candidates AS c
LEFT JOIN composite_scores AS s USING (candidate_id)
LEFT JOIN ifd_scores AS i USING (candidate_id)
LEFT JOIN judge_verdicts AS v USING (candidate_id)
GROUP BY c.pair_id
ORDER BY mean_pi DESC NULLS LAST, c.pair_id
