-- LEFT: rows before the first version, after a delete, or of unknown keys have NULLs
SELECT r.device, r.n, d.owner, d.rate
FROM readings_all AS r
LEFT JOIN rates FOR SYSTEM_TIME AS OF r.ts AS d ON r.device = d.device;
