-- the watermark is the smaller one
CREATE VIEW both_streams AS SELECT device, ts FROM readings_all UNION ALL SELECT device, ts FROM events;
SELECT window_start, device, COUNT(*) AS c
FROM TABLE(TUMBLE(TABLE both_streams, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, device;
