-- the three rows with the largest value per window
SELECT *
FROM (
  SELECT device, v, n, window_start, window_end,
    ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY v DESC, n) AS rn
  FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND))
)
WHERE rn <= 3;
