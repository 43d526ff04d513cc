-- no rows at all
SELECT k, window_start, COUNT(*) AS c FROM TABLE(TUMBLE(TABLE nothing, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY k, window_start, window_end;
