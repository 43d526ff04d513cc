-- the same, LEFT, with the version's own time
CREATE VIEW versions AS
SELECT device, owner, rate, ts
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY device ORDER BY ts DESC) AS rn FROM devices)
WHERE rn = 1;
SELECT e.id, e.device, d.owner, d.ts AS since
FROM events AS e
LEFT JOIN versions FOR SYSTEM_TIME AS OF e.ts AS d ON e.device = d.device;
