-- a sum of INT is an INT and wraps
SELECT device, window_start, SUM(n) AS s, AVG(n) AS a, SUM(CAST(n AS BIGINT)) AS wide, SUM(n + 1) AS s1
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '30' SECOND))
GROUP BY device, window_start, window_end;
