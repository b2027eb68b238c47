-- Which pairs are winning: candidates, wins, mean pi and today's probability
SELECT pair_id, candidates, failed, selected, win_rate, round(mean_pi, 4) AS mean_pi, round(probability, 4) AS probability
FROM pair_leaderboard
