-- FOR SYSTEM_TIME AS OF a changelog: the version valid at the row's time
SELECT r.device, r.n, r.ts, d.owner, d.rate
FROM readings_all AS r
JOIN rates FOR SYSTEM_TIME AS OF r.ts AS d ON r.device = d.device;
