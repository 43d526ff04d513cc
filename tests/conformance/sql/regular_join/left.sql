-- LEFT: a row without a partner is taken back when one comes
-- order: final
SELECT r.n, r.device, s.city
FROM readings_plain AS r LEFT JOIN sites AS s ON r.site = s.site;
