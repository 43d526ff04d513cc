-- deduplicated rows counted in the same window
SELECT window_start, window_end, COUNT(*) AS devices, SUM(v) AS s
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, device ORDER BY ts DESC) AS rn
  FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND))
)
WHERE rn = 1
GROUP BY window_start, window_end;
