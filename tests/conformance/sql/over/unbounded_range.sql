-- without a frame: RANGE UNBOUNDED PRECEDING, rows of the same time together
SELECT device, n, ts, COUNT(*) OVER (PARTITION BY device ORDER BY ts) AS c, AVG(v) OVER (PARTITION BY device ORDER BY ts) AS a
FROM readings;
