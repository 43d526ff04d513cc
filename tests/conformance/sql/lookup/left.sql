-- LEFT: rows without one come with NULLs
-- engine: embedded
SELECT r.n, r.device, s.city
FROM readings_plain AS r LEFT JOIN sites FOR SYSTEM_TIME AS OF r.pt AS s ON r.site = s.site;
