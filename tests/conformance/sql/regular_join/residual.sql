-- a condition that is no equality
SELECT r.n, r.v, s.size
FROM readings_plain AS r JOIN sites AS s ON r.site = s.site AND r.v * 2 > s.size;
