-- ordered by arrival
SELECT device, n, COUNT(*) OVER w AS c, SUM(v) OVER w AS s
FROM readings_plain
WINDOW w AS (PARTITION BY device ORDER BY pt ROWS BETWEEN 1 PRECEDING AND CURRENT ROW);
