-- a lookup in a table outside the log: every row with the rows of its key there
-- engine: embedded
SELECT r.n, r.device, s.city, s.size
FROM readings_plain AS r JOIN sites FOR SYSTEM_TIME AS OF r.pt AS s ON r.site = s.site;
