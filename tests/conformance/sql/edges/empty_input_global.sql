-- no rows, an aggregate without GROUP BY
SELECT COUNT(*) AS c, SUM(n) AS s FROM nothing;
