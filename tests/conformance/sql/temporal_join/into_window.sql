-- the joined rows in windows of the left side's time
CREATE VIEW rated AS
SELECT r.n, r.ts, d.owner, d.rate
FROM readings_all AS r JOIN rates FOR SYSTEM_TIME AS OF r.ts AS d ON r.device = d.device;
SELECT window_start, owner, COUNT(*) AS c, SUM(rate) AS s
FROM TABLE(TUMBLE(TABLE rated, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, owner;
