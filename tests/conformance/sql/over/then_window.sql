-- the rows of OVER in windows
CREATE VIEW counted AS
SELECT device, ts, COUNT(*) OVER (PARTITION BY device ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS c
FROM readings;
SELECT window_start, device, MAX(c) AS c, COUNT(*) AS rows_in
FROM TABLE(TUMBLE(TABLE counted, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, device;
