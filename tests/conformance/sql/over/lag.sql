-- LAG: the row before, and further ones
SELECT device, n, LAG(n) OVER w AS before1, LAG(n, 2) OVER w AS before2, LAG(site) OVER w AS site1
FROM readings
WINDOW w AS (PARTITION BY device ORDER BY ts);
