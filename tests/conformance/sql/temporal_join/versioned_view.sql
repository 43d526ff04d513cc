-- a view that keeps the last row per key is a versioned table
CREATE VIEW versions AS
SELECT device, owner, rate, ts
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY device ORDER BY ts DESC) AS rn FROM devices)
WHERE rn = 1;
SELECT r.device, r.n, d.owner, d.rate
FROM readings_all AS r
JOIN versions FOR SYSTEM_TIME AS OF r.ts AS d ON r.device = d.device;
