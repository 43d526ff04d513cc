-- three inputs
-- order: final
SELECT r.n, s.city, d.owner
FROM readings_plain AS r
JOIN sites AS s ON r.site = s.site
JOIN devices AS d ON r.device = d.device AND d.rate > 1.5
WHERE r.v > 1;
