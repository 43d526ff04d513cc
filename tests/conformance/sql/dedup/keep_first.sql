-- the first row per key by event time, where rows come in order
SELECT device, n, ts
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY device ORDER BY ts ASC) AS rn FROM readings_in_order)
WHERE rn = 1;
