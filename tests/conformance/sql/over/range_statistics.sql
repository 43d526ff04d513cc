-- averages, deviations and COUNT of an argument over RANGE
SELECT device, n, AVG(v) OVER w AS a, STDDEV_POP(v) OVER w AS sd, COUNT(v) OVER w AS c
FROM readings
WHERE v < 100 AND v > -100
WINDOW w AS (PARTITION BY device ORDER BY ts RANGE BETWEEN INTERVAL '8' SECOND PRECEDING AND CURRENT ROW);
