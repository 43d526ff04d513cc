-- fails: a window over rows that change
-- Flink 2.3 takes this; here rows are grouped by window before they change
CREATE VIEW last_ones AS
SELECT device, v, ts
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY device ORDER BY v DESC) AS rn FROM readings) WHERE rn = 1;
SELECT device, window_start, COUNT(*) AS c FROM TABLE(TUMBLE(TABLE last_ones, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY device, window_start, window_end;
