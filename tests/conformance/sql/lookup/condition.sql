-- a further condition, and one on the table alone
-- engine: embedded
SELECT r.n, r.v, s.city
FROM readings_plain AS r JOIN sites FOR SYSTEM_TIME AS OF r.pt AS s ON r.site = s.site AND r.v * 2 > s.size AND s.size > 5;
