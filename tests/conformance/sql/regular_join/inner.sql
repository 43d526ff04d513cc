-- two insert-only inputs: pairs come as they arrive
SELECT r.n, r.device, s.city, s.size
FROM readings_plain AS r JOIN sites AS s ON r.site = s.site;
