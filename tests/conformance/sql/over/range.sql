-- RANGE: the last ten seconds, all rows of the same time
SELECT device, n, ts, COUNT(*) OVER w AS c, SUM(v) OVER w AS s, MAX(v) OVER w AS hi
FROM readings
WINDOW w AS (PARTITION BY device ORDER BY ts RANGE BETWEEN INTERVAL '10' SECOND PRECEDING AND CURRENT ROW);
