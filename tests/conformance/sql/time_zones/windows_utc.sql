-- windows of days over instants
SELECT k, window_start, window_end, window_time, COUNT(*) AS c
FROM TABLE(TUMBLE(TABLE instants, DESCRIPTOR(ts), INTERVAL '1' DAY))
GROUP BY k, window_start, window_end, window_time;
