-- NOT EXISTS
-- order: final
SELECT n, device, site FROM readings_plain AS r
WHERE NOT EXISTS (SELECT * FROM sites AS s WHERE s.site = r.site AND s.size IS NOT NULL);
