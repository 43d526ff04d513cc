-- per key: a step without new rows of the key repeats its result
SELECT device, window_start, window_end, COUNT(*) AS c, MAX(v) AS hi
FROM TABLE(CUMULATE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '1' MINUTE))
GROUP BY device, window_start, window_end;
