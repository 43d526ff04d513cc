-- NULL is no key: a row without a device has no version
CREATE VIEW versions AS
SELECT device, id, ts
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY device ORDER BY ts DESC) AS rn FROM events)
WHERE rn = 1;
SELECT r.device, r.n, e.id
FROM readings_all AS r LEFT JOIN versions FOR SYSTEM_TIME AS OF r.ts AS e ON r.device = e.device;
