-- expressions as keys and over aggregates
-- key: odd
SELECT MOD(n, 2) AS odd, SUM(n) + COUNT(*) AS x, CASE WHEN MAX(v) > 5 THEN 'high' ELSE 'low' END AS level
FROM readings_plain WHERE n < 1000 GROUP BY MOD(n, 2);
