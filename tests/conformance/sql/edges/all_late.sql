-- the first row makes all others late
SELECT k, window_start, COUNT(*) AS c, SUM(n) AS s FROM TABLE(TUMBLE(TABLE late_ones, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY k, window_start, window_end;
