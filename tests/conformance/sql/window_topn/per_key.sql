-- per site and window, without the rank
SELECT site, device, v, window_start
FROM (
  SELECT site, device, v, window_start, window_end,
    ROW_NUMBER() OVER (PARTITION BY window_start, window_end, site ORDER BY v) AS rn
  FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '30' SECOND))
)
WHERE rn <= 2;
