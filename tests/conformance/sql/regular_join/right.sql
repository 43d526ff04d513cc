-- RIGHT: rows of the table without a reading
-- order: final
SELECT s.site, s.city, r.n
FROM readings_plain AS r RIGHT JOIN sites AS s ON r.site = s.site;
