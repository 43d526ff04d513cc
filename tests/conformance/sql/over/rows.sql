-- ROWS: this row and the two before it, per device, in order of event time
SELECT device, n, ts, COUNT(*) OVER w AS c, SUM(v) OVER w AS s, MIN(v) OVER w AS lo
FROM readings
WINDOW w AS (PARTITION BY device ORDER BY ts ROWS BETWEEN 2 PRECEDING AND CURRENT ROW);
