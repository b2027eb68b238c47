-- Which model was behind an agent's name, in which shard?
-- A row a table of a shard and an agent of the configuration that made it.
-- made: the table, since judging a shard again may be done with another configuration
-- model: litellm's name of the model
-- api_base: the server's address; null: the provider's own
WITH named AS (
    SELECT DISTINCT ON (fingerprint, agent)
        fingerprint,
        agent,
        settings->'agents'->agent->>'model' AS model,
        settings->'agents'->agent->>'api_base' AS api_base
    FROM (
        SELECT fingerprint, settings::JSON AS settings, unnest(json_keys(settings::JSON, 'agents')) AS agent
        FROM configs
        WHERE settings IS NOT NULL
    )
)
SELECT o.shard, o.made, n.agent, n.model, n.api_base, o.fingerprint
FROM origins AS o
JOIN named AS n USING (fingerprint)
WHERE o.made IN ('candidates', 'judge_verdicts')
ORDER BY o.shard, o.made, n.agent
