-- Top-N of overlapping windows
SELECT *
FROM (
  SELECT device, n, window_start, window_end,
    ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY n DESC, device) AS rn
  FROM TABLE(HOP(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND))
  WHERE n IS NOT NULL
)
WHERE rn <= 2;
