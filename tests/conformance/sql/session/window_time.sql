-- window_time is a millisecond before the end
SELECT device, window_start, window_end, window_time, MAX(ts) AS latest
FROM TABLE(SESSION(TABLE readings PARTITION BY device, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY device, window_start, window_end, window_time;
