-- fails: `v` is not a time attribute
SELECT device, SUM(n) OVER (PARTITION BY device ORDER BY v ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s FROM readings;
