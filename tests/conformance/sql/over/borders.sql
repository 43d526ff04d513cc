-- RANGE: exactly the interval before counts, a millisecond more does not
SELECT k, n, ts, COUNT(*) OVER w AS c, SUM(n) OVER w AS s
FROM touching
WINDOW w AS (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '5' SECOND PRECEDING AND CURRENT ROW);
