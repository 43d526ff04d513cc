-- WITH, one query using another
WITH high AS (SELECT * FROM readings WHERE v > 2),
  per_window AS (
    SELECT device, window_start, COUNT(*) AS c
    FROM TABLE(TUMBLE(TABLE high, DESCRIPTOR(ts), INTERVAL '10' SECOND))
    GROUP BY device, window_start, window_end
  )
SELECT device, window_start, c FROM per_window WHERE c > 1;
