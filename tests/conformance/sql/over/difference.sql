-- an expression over LAG
SELECT device, ts, v - LAG(v) OVER (PARTITION BY device ORDER BY ts) AS step
FROM readings_in_order WHERE v IS NOT NULL;
