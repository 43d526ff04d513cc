-- an aggregate that nobody reads makes no row change
-- key: k
SELECT k, MAX(s) AS hi, COUNT(*) AS c
FROM (SELECT MOD(n, 4) AS k, device, SUM(n) AS s, COUNT(*) AS unread FROM (SELECT MOD(n, 7) AS n, device FROM readings_plain) GROUP BY MOD(n, 4), device)
GROUP BY k;
