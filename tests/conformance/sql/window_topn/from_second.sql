-- ranks 2 to 3
SELECT *
FROM (
  SELECT n, v, window_start, window_end,
    ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY n) AS rn
  FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND))
)
WHERE rn BETWEEN 2 AND 3;
