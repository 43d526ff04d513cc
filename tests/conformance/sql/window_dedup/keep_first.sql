-- the first row per device and window by event time; of equal times the one that came first
SELECT device, site, v, n, ts, window_start
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, device ORDER BY ts ASC) AS rn
  FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND))
)
WHERE rn = 1;
