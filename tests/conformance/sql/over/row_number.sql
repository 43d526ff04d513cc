-- ROW_NUMBER in order of event time
SELECT device, n, ts, ROW_NUMBER() OVER (PARTITION BY device ORDER BY ts) AS rn
FROM readings_in_order;
