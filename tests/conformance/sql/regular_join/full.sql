-- FULL: NULL keys have no partner on either side
-- order: final
SELECT s.site, s.city, o.n
FROM (SELECT * FROM readings_plain WHERE site IS NULL OR site = 'x') AS o FULL JOIN sites AS s ON o.site = s.site;
