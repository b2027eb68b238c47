-- What did each of several judges say?
-- A row a candidate and judge. Of judges that are several (judge.agents) the majority is the candidate's row in judge_verdicts.
-- judge_agent: the agent that was asked
SELECT
    shard,
    candidate_id,
    seed_id,
    said.agent AS judge_agent,
    said.* EXCLUDE (agent)
FROM (
    SELECT
        shard,
        candidate_id,
        seed_id,
        unnest(
            coalesce(
                judges,
                [
                    struct_pack(
                        agent := judge_agent,
                        verdict := verdict,
                        verdict_first := verdict_first,
                        verdict_swapped := verdict_swapped,
                        flipped := flipped,
                        pi_llm := pi_llm,
                        log_odds_first := log_odds_first,
                        log_odds_swapped := log_odds_swapped,
                        margin := margin,
                        reply_first := reply_first,
                        reply_swapped := reply_swapped,
                        error := error,
                        attempts := attempts,
                        prompt_tokens := prompt_tokens,
                        completion_tokens := completion_tokens,
                        cost_usd := cost_usd
                    )
                ]
            )
        ) AS said
    FROM judge_verdicts
    WHERE judge_agent IS NOT NULL
)
ORDER BY shard, seed_id, candidate_id, judge_agent
