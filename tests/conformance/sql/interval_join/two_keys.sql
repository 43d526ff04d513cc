-- two keys, one of them an expression; NULL equals nothing
SELECT a.n, b.n AS m, a.site
FROM readings_all AS a JOIN readings_all AS b
ON a.site = b.site AND UPPER(a.device) = UPPER(b.device) AND a.ts BETWEEN b.ts AND b.ts + INTERVAL '1' SECOND
WHERE a.n <> b.n;
