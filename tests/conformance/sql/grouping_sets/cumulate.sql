-- ROLLUP over CUMULATE
SELECT device, window_start, window_end, COUNT(*) AS c
FROM TABLE(CUMULATE(TABLE readings, DESCRIPTOR(ts), INTERVAL '20' SECOND, INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, ROLLUP (device);
