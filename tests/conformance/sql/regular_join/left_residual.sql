-- the same, LEFT
-- order: final
SELECT r.n, r.v, s.size
FROM readings_plain AS r LEFT JOIN sites AS s ON r.site = s.site AND r.v * 2 > s.size;
