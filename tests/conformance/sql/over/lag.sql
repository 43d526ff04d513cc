-- LAG: the row before, further ones, and a value where there is none
SELECT device, n, LAG(n) OVER w AS before1, LAG(n, 2) OVER w AS before2, LAG(v, 1, CAST(-99 AS DOUBLE)) OVER w AS v1
FROM readings
WINDOW w AS (PARTITION BY device ORDER BY ts);
