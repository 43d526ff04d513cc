-- where NULLs stand: first when ascending, last when descending
SELECT *
FROM (
  SELECT n, v, window_start, window_end,
    ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY v ASC, n DESC) AS rn
  FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND))
)
WHERE rn <= 2;
