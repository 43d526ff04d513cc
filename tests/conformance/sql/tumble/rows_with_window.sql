-- the window function alone keeps every row, late ones too
SELECT device, n, ts, window_start, window_end, window_time
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND));
