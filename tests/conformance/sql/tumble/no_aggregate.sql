-- GROUP BY the window without an aggregate: which devices there were
SELECT window_start, device
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, device;
